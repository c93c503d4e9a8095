"""`distill train`: trains a student, or resumes its training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.progress import to_stderr
from distill.config.run_name import default_run_dir
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.training.records import Results


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `train`."""
    command = arguments.add(commands, "train", "train a student, or resume a run", configured=True)
    command.add_argument("--run_dir", help="the run folder; default runs/<experiment>-<overrides>")
    command.add_argument(
        "--profile",
        action="store_true",
        help="measure where the time goes and trace a few steps; results go to <run_dir>/profile",
    )
    several = command.add_argument_group("several hosts (start the command on each)")
    several.add_argument(
        "--distributed",
        action="store_true",
        help="join all hosts into one run; they are detected on Cloud TPU, GKE, Slurm and Open MPI",
    )
    several.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="address of process 0; needed only if hosts are not detected",
    )
    several.add_argument(
        "--num_processes",
        type=int,
        help="number of processes; needed only if hosts are not detected",
    )
    several.add_argument(
        "--process_id",
        type=int,
        help="index of this process, from 0; needed only if hosts are not detected",
    )

    def run(options: argparse.Namespace) -> Results:
        from distill.config.resolve import resolve
        from distill.convert.sizes import adopt_for
        from distill.data import datasets

        names = arguments.gin_files(options)
        run_dir = options.run_dir or default_run_dir(names, options.overrides, options.engine)
        resolved = resolve(names, options.overrides, options.engine, adopt_for(run_dir))
        datasets.check_settings(resolved.run.data)
        place = (options.coordinator_address, options.num_processes, options.process_id)
        distributed = options.distributed or any(value is not None for value in place)
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
        if distributed:
            from distill.training import hosts

            hosts.connect(*place)
        # Several hosts read the rows together, in `native.train`.
        prepared = None if distributed else early_checks.check_rows(resolved, run_dir)
        from distill.engines import native

        return native.train(resolved, run_dir, profile=options.profile, prepared=prepared)

    def show(results: Results) -> None:
        from distill.engines.results import say

        say(results, print)

    command.set_defaults(run=run, show=show)
