"""The flags of `distill launch predict`, which are those of `distill predict` on a slice."""

from __future__ import annotations

import argparse

from distill.commands import predict
from distill.commands.parser import Parser
from distill.common.atomic import is_local
from distill.errors import UserError


def add_flags(command: argparse.ArgumentParser) -> None:
    """Adds the flags that the hosts get."""
    command.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="FILE",
        help="JSONL files or patterns such as 'gs://BUCKET/rows-*.jsonl'; repeatable",
    )
    command.add_argument(
        "--output_dir",
        required=True,
        metavar="FOLDER",
        help="takes the answers in parts, gs://BUCKET/...; complete parts are kept",
    )
    command.add_argument("--run_dir", help="the run folder; default: that of the launch")
    predict.add_how(command)


def job_of(options: argparse.Namespace, run_dir: str) -> tuple[str, ...]:
    """What the hosts run (`LaunchSettings.job`), after the checks of `distill predict`.

    Args:
      options: with the flags above.
      run_dir: the run folder of the launch.

    Raises:
      UserError: flags that do not go together; a path of this machine.
    """
    paths = [("run_dir", options.run_dir or run_dir), ("output_dir", options.output_dir)]
    paths += [("input", path) for path in options.input]
    for name, path in paths:
        if is_local(path):
            raise UserError(
                f"got --{name}={path}, a path of this machine, which the hosts do not see; "
                "expected gs://BUCKET/..."
            )
    job = ["predict", *(f"--{name}={path}" for name, path in paths)]
    for name in predict.HOW:
        value = getattr(options, name)
        if value is True:
            job.append(f"--{name}")
        elif value is not None and value is not False and value != "":
            values = value if isinstance(value, list) else [value]
            job += [f"--{name}={each}" for each in values]
    parser = Parser()
    predict.add(parser.add_subparsers())
    predict.check_flags(parser.parse_args([*job, "--distributed"]))
    return tuple(job)
