"""`distill annotate`: labels and rationales for rows, from a language model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.flags import add_flags, from_options
from distill.common.process_exit import orderly_sigterm
from distill.teacher.settings import Options

if TYPE_CHECKING:
    from distill.teacher.results import summary

TEXT = "write labels and rationales with any OpenAI-compatible endpoint, or simulate a teacher"
EPILOG = """\
  distill annotate --input=rows.jsonl --prompt=mine.toml --model=NAME \\
      --base_url=http://localhost:8000/v1 --output=annotated.jsonl

This sends a request for every row that the store (annotated.store) does not hold yet, and writes
training rows. The API key is read from the environment (OPENAI_API_KEY, or --key_env).
If you give neither rows nor a model, the command writes generated tickets, labeled by a
simulated teacher.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `annotate`."""
    command = arguments.add(commands, "annotate", TEXT, configured=False)
    command.epilog = EPILOG
    add_flags(command, Options)
    command.add_argument("--api_key", "--key", type=_no_key, help=argparse.SUPPRESS)
    files = ("output", "teacher_row", "batch_write")
    command.set_defaults(run=_run, show=_show, output_files=files)


def _no_key(_: str) -> str:
    raise argparse.ArgumentTypeError(
        "API keys are not accepted as arguments, which every process on this machine can read; put "
        "the key into the environment (see --key_env)"
    )


def _run(options: argparse.Namespace) -> summary.Result:
    from distill.teacher import pipeline

    with orderly_sigterm("distill: stopped by SIGTERM: the answers so far are stored"):
        return pipeline.run_annotate(from_options(Options, options))


def _show(result: summary.Result) -> None:
    from distill.teacher.results.summary import text

    print(text(result))
