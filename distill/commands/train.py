"""`distill train`: trains a student, or resumes its training."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from distill.commands import arguments, several_hosts
from distill.common.progress import to_stderr
from distill.config.run_name import default_run_dir
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.training.records import Results


STEP_TIMEOUT = 600.0


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `train`."""
    command = arguments.add(commands, "train", "train a student, or resume a run", configured=True)
    command.add_argument("--run_dir", help="the run folder; default runs/<experiment>-<overrides>")
    command.add_argument(
        "--profile",
        action="store_true",
        help="measure where the time goes and trace a few steps; results go to <run_dir>/profile",
    )
    several_hosts.add(command)
    command.add_argument(
        "--step_timeout",
        type=float,
        metavar="SECONDS",
        help=(
            "end with exit code 75 when no step has finished for so long; 0 never does; default "
            f"{STEP_TIMEOUT:.0f} on several hosts, 0 on one"
        ),
    )

    def run(options: argparse.Namespace) -> Results:
        from distill.config.resolve import resolve
        from distill.convert.sizes import adopt_for
        from distill.data import datasets

        names = arguments.gin_files(options)
        run_dir = options.run_dir or default_run_dir(names, options.overrides, options.engine)
        resolved = resolve(names, options.overrides, options.engine, adopt_for(run_dir))
        datasets.check_settings(resolved.run.data)
        distributed = several_hosts.is_given(options)
        if not options.run_dir:
            to_stderr(f"the run folder is {run_dir}")
        from distill.engines import early_checks

        if resolved.engine == "t5x":
            from distill.engines.t5x import train as t5x_train

            if options.profile:
                raise UserError(
                    "--profile works only with the native engine; T5X has its own profiler (see "
                    "its documentation)"
                )
            if distributed:
                raise UserError(
                    "--distributed and its related flags work only with the native engine; T5X "
                    "finds the hosts of a TPU slice itself (docs/t5x.md)"
                )
            prepared = early_checks.check_rows(resolved, run_dir)
            return t5x_train.train(resolved, run_dir, prepared=prepared)
        if not distributed:
            several_hosts.check_not_alone()
        else:
            from distill.training import hosts

            hosts.connect(*several_hosts.place_of(options))
        # Several hosts read the rows together, in `native.train`.
        prepared = None if distributed else early_checks.check_rows(resolved, run_dir)
        from distill.engines import native

        return native.train(
            resolved,
            run_dir,
            profile=options.profile,
            prepared=prepared,
            step_timeout=step_timeout(options, distributed),
        )

    def show(results: Results) -> None:
        from distill.engines.results import say

        say(results, print)

    command.set_defaults(run=run, show=show)


def step_timeout(options: argparse.Namespace, is_distributed: bool) -> float:
    """Seconds after which a run without a finished step ends; 0 for never.

    Raises:
      UserError: not such a number.
    """
    seconds: float | None = options.step_timeout
    if seconds is None:
        return STEP_TIMEOUT if is_distributed else 0.0
    if not 0 <= seconds < math.inf:
        raise UserError(f"got --step_timeout={seconds}, expected seconds, or 0 for no limit")
    return seconds
