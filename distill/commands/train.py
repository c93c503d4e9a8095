"""`distill train`: trains a student, or resumes its training."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.digests import sha256_text
from distill.common.progress import to_stderr
from distill.config import macros
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.training.records import Results

# Where the data lie does not name a run: their contents are compared when it resumes.
_PLACES = frozenset({"RAW_DIR", "VOCABULARY_PATH"})
_READABLE = re.compile(r"[\w.+=-]{1,60}", re.ASCII)


def default_run_dir(
    gin_files: Sequence[str], overrides: Sequence[str], engine: str | None = None
) -> str:
    """The folder of a run that was given none: the same for the same command, so that it resumes.

    Args:
      gin_files: names or paths, the experiment first.
      overrides: `NAME=value` texts.
      engine: as given by --engine.

    Returns:
      `runs/`, the stems of the files, and the overrides sorted by name, or eight digits of their
      digest where they are long or hold what does not belong in a name.
    """
    stems = [name.split("/")[-1].removesuffix(".gin") for name in gin_files]
    settings = dict(macros.parse_override(text) for text in overrides)
    settings |= {"ENGINE": engine} if engine else {}
    values = {name: text.strip("'") for name, text in settings.items()}
    parts = [f"{name}={values[name]}" for name in sorted(values.keys() - _PLACES)]
    text = "-".join(parts)
    if parts and not _READABLE.fullmatch(text):
        text = sha256_text(*parts)[:8]
    return "runs/" + "-".join([*stems, *([text] if parts else [])])


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `train`."""
    command = arguments.add(commands, "train", "train a student, or resume a run", configured=True)
    command.add_argument("--run_dir", help="the run folder; default runs/<experiment>-<overrides>")
    command.add_argument(
        "--profile", action="store_true", help="trace a few steps into <run_dir>/profile"
    )
    several = command.add_argument_group("several hosts (start the same command on each)")
    several.add_argument(
        "--distributed",
        action="store_true",
        help="join all hosts into one run; they are detected on Cloud TPU, GKE, Slurm and Open MPI",
    )
    several.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="address of process 0, where hosts are not detected",
    )
    several.add_argument(
        "--num_processes", type=int, help="number of processes, where hosts are not detected"
    )
    several.add_argument(
        "--process_id", type=int, help="index of this process, from 0, where hosts are not detected"
    )

    def run(options: argparse.Namespace) -> Results:
        from distill.config.resolve import resolve
        from distill.data import datasets

        names = arguments.gin_files(options)
        resolved = resolve(names, options.overrides, options.engine)
        datasets.check_settings(resolved.run.data)
        place = (options.coordinator_address, options.num_processes, options.process_id)
        distributed = options.distributed or any(value is not None for value in place)
        run_dir = options.run_dir or default_run_dir(names, options.overrides, options.engine)
        if not options.run_dir:
            to_stderr(f"the run folder is {run_dir}")
        if resolved.engine == "t5x":
            from distill.engines.t5x import train as t5x_train

            if options.profile:
                raise UserError("--profile is of the native engine; T5X has its own (see its docs)")
            if distributed:
                raise UserError(
                    "--distributed and its like are of the native engine; T5X finds the hosts of "
                    "a TPU slice by itself, see docs/t5x.md"
                )
            return t5x_train.train(resolved, run_dir)
        if distributed:
            from distill.training import hosts

            hosts.connect(*place)
        from distill.engines import native

        return native.train(resolved, run_dir, profile=options.profile)

    def show(results: Results) -> None:
        from distill.engines.results import say

        say(results, print)

    command.set_defaults(run=run, show=show)
