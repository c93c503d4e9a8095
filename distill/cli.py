"""The command `distill`: reads arguments, calls a command, turns errors into exit codes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from distill import __version__
from distill.commands import (
    annotate,
    config,
    convert,
    data,
    evaluate,
    loss_weights,
    predict,
    preflight,
    train,
)
from distill.common.progress import PERIOD, Stage
from distill.common.terminal import printable
from distill.errors import CheckFailed, UserError

EPILOG = """\
A run is a gin file of gin/experiments and, where you like, settings on top of it:

  distill train --gin_file=gin/experiments/tickets_step_by_step.gin --run_dir=runs/my_tickets
  distill predict --run_dir=runs/my_tickets "my fan seems burnt ."
  distill config explain LABEL_WEIGHT --gin_file=gin/experiments/tickets_step_by_step.gin
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; None takes those of the process.

    Returns:
      0 on success, 2 on bad input (which is explained on stderr), 130 on Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments, overrides = _split_overrides(list(sys.argv[1:] if argv is None else argv))
    options = _parser().parse_args(arguments)
    if overrides and not hasattr(options, "engine"):
        print(f"distill: {options.command} takes no --gin.NAME", file=sys.stderr)
        return 2
    options.overrides = [*overrides, *_shorthands(options)]
    if getattr(options, "cache_dir", None):
        os.environ["DISTILL_CACHE_DIR"] = options.cache_dir
    code = 0
    try:
        with Stage(f"distill {options.command} is at work", delay=PERIOD):
            result = options.run(options)
    except CheckFailed as failure:
        print(f"distill: {printable(str(failure))}", file=sys.stderr)
        result, code = failure.result, 2
    except UserError as error:
        print(f"distill: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("distill: interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    elif options.show is not None:
        options.show(result)
    return code


def _split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Takes `--gin.NAME=value` (or `--gin.NAME value`) out of the arguments."""
    rest, overrides = [], []
    pending = iter(arguments)
    for argument in pending:
        if argument.startswith("--gin."):
            text = argument.removeprefix("--gin.")
            overrides.append(text if "=" in text else f"{text}={next(pending, '')}")
        else:
            rest.append(argument)
    return rest, overrides


def _shorthands(options: argparse.Namespace) -> list[str]:
    """Flags that stand for a macro."""
    pairs = (("RAW_DIR", "raw_dir"), ("VOCABULARY_PATH", "vocabulary_path"), ("SEED", "seed"))
    return [
        f"{macro}={getattr(options, flag)!r}"
        for macro, flag in pairs
        if getattr(options, flag, None) is not None
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill",
        description="Distilling step-by-step (arXiv 2305.02301): train small students on an "
        "LLM's labels and rationales.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"distill {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (
        train,
        evaluate,
        predict,
        annotate,
        data,
        loss_weights,
        preflight,
        convert,
        config,
    ):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
