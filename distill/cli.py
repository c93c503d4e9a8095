"""The command `distill`: reads arguments, calls a command, turns errors into exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from distill import __version__
from distill.commands import (
    annotate,
    config,
    convert,
    data,
    evaluate,
    export,
    launch,
    loss_weights,
    new,
    predict,
    preflight,
    report,
    results,
    sweep,
    train,
)
from distill.commands.arguments import check_paths, command_of, shorthands
from distill.commands.parser import Parser
from distill.common import internal_errors, terminal
from distill.common.huge_pages import restart_with_huge_pages
from distill.common.paths import is_bucket, nearest_folder
from distill.common.process_exit import run_and_exit
from distill.common.progress import PERIOD, Stage
from distill.errors import TRY_AGAIN, CheckFailed, HostMissing, Stopped, UserError

COMPUTES = ("train", "evaluate")  # commands that gain more from huge pages than a start costs
EPILOG = """\
A run is configured by an experiment in gin/experiments, and by settings that override it:

  distill train --gin_file=gin/experiments/tickets_step_by_step.gin --run_dir=runs/my_tickets
  distill predict --run_dir=runs/my_tickets "my fan seems burnt ."
  distill config explain LABEL_WEIGHT --gin_file=gin/experiments/tickets_step_by_step.gin
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; None takes those of the process.

    Returns:
      0 on success, 2 on bad input (which is explained on stderr), 70 on a fault of this program
      (its traceback is in a file that stderr names), 75 if a host of the run is missing or hangs,
      130 on Ctrl-C, 143 and 129 on SIGTERM and SIGHUP, 141 if nobody reads stdout.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    terminal.escape_unencodable()
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except KeyboardInterrupt as interrupt:
        _say(str(interrupt) or "interrupted")
        return 130
    except BrokenPipeError:
        terminal.discard_stdout()
        return 141
    except terminal.OutputFailed as failure:
        terminal.discard_stdout()
        _say(str(failure))
        return 2
    except Exception as error:
        _say(f"internal error in distill: {internal_errors.write(error, given)}")
        return internal_errors.EXIT_CODE


def _run(given: Sequence[str]) -> int:
    """Reads the arguments and runs the command that they name; see `main`."""
    for text in given:
        if "\0" in text:
            _say(f"argument {text!r} contains a NUL character: remove it")
            return 2
    parser = make_parser()
    try:
        arguments, overrides = _split_overrides(given)
        options, rest = parser.parse_known_args(arguments)
    except UserError as error:
        _say(str(error))
        return 2
    if rest:
        from distill.commands.unknown_flags import unknown_flag

        _say(unknown_flag(rest[0], options, _flags_of(parser, options)))
        return 2
    if overrides and not hasattr(options, "engine"):
        reason = ": the settings come from the run folder" if hasattr(options, "run_dir") else ""
        _say(f"{options.command} does not take --gin.NAME{reason}")
        return 2
    refusal = ""
    try:
        check_paths(options)
        if getattr(options, "cache_dir", None):
            if not is_bucket(options.cache_dir):
                nearest_folder(options.cache_dir, f"--cache_dir={options.cache_dir}")
            os.environ["DISTILL_CACHE_DIR"] = options.cache_dir
        if getattr(options, "cache_workers", None) is not None:
            os.environ["DISTILL_CACHE_WORKERS"] = str(options.cache_workers)
        options.overrides = [*overrides, *shorthands(options, overrides)]
        with Stage(f"distill {command_of(options)} is running", delay=PERIOD):
            result = options.run(options)
    except CheckFailed as failure:
        result, refusal = failure.result, str(failure)
    except HostMissing as missing:
        _say(str(missing))
        return TRY_AGAIN
    except UserError as error:
        _say(str(error))
        return 2
    except Stopped as stopped:
        _say(str(stopped))
        return 128 + stopped.number
    except Exception as error:
        _await_lost_host()
        told = _out_of_memory(error, options.command) or _bad_variable(error)
        told = told or _storage_failure(error, given)
        if told is None:
            raise
        _say(told)
        return 2
    with terminal.naming_stdout():
        if options.json:
            print(terminal.json_line(result))
        elif options.show is not None:
            with contextlib.redirect_stdout(terminal.PrintableStream(sys.stdout)):
                options.show(result)
        sys.stdout.flush()
    if refusal:
        _say(refusal)  # below the result, where it is seen
    return 2 if refusal else 0


def _storage_failure(error: Exception, given: Sequence[str]) -> str | None:
    """What to tell about a file that cannot be read or written; None if that is not what failed."""
    from distill.common.disk import describe_failure

    return describe_failure(error, [text.rpartition("=")[2].strip("'\"") for text in given])


def _out_of_memory(error: Exception, command: str) -> str | None:
    """What to tell if a device has no room for an array; None if that is not what failed."""
    found = str(error).partition("\n")[0]
    if type(error).__name__ != "JaxRuntimeError" or not found.startswith("RESOURCE_EXHAUSTED"):
        return None
    fix = "stop other programs on the device, or use one with more memory"
    if command == "train":
        fix = "lower BATCH_SIZE or EVAL_BATCH_SIZE, raise MICROBATCHES or MODEL_PARALLEL, set "
        fix += "REMAT = 'full', or choose a smaller --size"
    return f"out of memory ({found}): {fix}"


def _bad_variable(error: Exception) -> str | None:
    """What to tell if jax refuses a variable of the environment; None for other failures."""
    text = str(error).partition("\n")[0]
    for found in re.findall(r"\bJAX_\w+", text, re.IGNORECASE):
        value = os.environ.get(found.upper())
        if value is not None and isinstance(error, ValueError):
            return f"got {found.upper()}={value} in the environment: {text}; correct or unset it"
    return None


def _await_lost_host() -> None:
    """Ends the process here if the error is that of a collective whose other end is gone."""
    if peers := sys.modules.get("distill.training.peers"):
        peers.await_end()


def _say(text: str) -> None:
    """One line, or a few, on stderr."""
    print(f"distill: {terminal.message(text)}", file=sys.stderr)


def _flags_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """The flags that the command of these options takes; without a command, those of `distill`."""
    flags: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            chosen = getattr(options, action.dest)
            if chosen is not None:
                return _flags_of(action.choices[chosen], options)
        elif action.help is not argparse.SUPPRESS:
            flags += action.option_strings
    return flags


def _split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes `--gin.NAME=value` (or `--gin.NAME value`) out of the arguments.

    Raises:
      UserError: a name without a value; one that starts with `--` stands after `=`.
    """
    rest, overrides = [], []
    pending = iter(arguments)
    for argument in pending:
        if argument.startswith("--gin."):
            text = argument.removeprefix("--gin.")
            if "=" not in text:
                value = next(pending, None)
                if value is None or value.startswith("--"):
                    raise UserError(f"{argument} needs a value: {argument}=VALUE")
                text = f"{text}={value}"
            overrides.append(text)
        else:
            rest.append(argument)
    return rest, overrides


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands, without `--gin.NAME=value`, which `main` takes out first."""
    parser = Parser(
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
        new,
        loss_weights,
        preflight,
        launch,
        sweep,
        results,
        report,
        convert,
        export,
        config,
    ):
        command.add(commands)
    return parser


def run_process() -> NoReturn:
    """The process `distill`: `main`, and the end of the process."""
    if sys.argv[1:2] and sys.argv[1] in COMPUTES:
        restart_with_huge_pages()
    run_and_exit(main)


if __name__ == "__main__":
    run_process()
