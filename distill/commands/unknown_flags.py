"""What to tell about an argument that a command does not take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from distill.commands.arguments import command_of
from distill.config import files
from distill.errors import UserError, alike

_ROWS = ("jsonl", "csv", "tsv", "json", "ndjson", "parquet", "arrow", "gz")  # files of rows


def unknown_flag(argument: str, options: argparse.Namespace, known: Sequence[str]) -> str:
    """What to tell about an argument that a command does not take.

    Args:
      argument: the first such argument, e.g. "--learning_rate=1e-3".
      options: what the parser did take.
      known: the command's flags, e.g. "--seed".
    """
    command = command_of(options) or "distill"
    see = f"see {command if command == 'distill' else f'distill {command}'} --help"
    if not argument.startswith("-"):
        suffix = argument.rpartition(".")[2]
        is_rows = suffix in _ROWS
        is_gin = suffix == "gin" or (
            "--gin_file" in known and not is_rows and _is_gin_file(argument)
        )
        if hasattr(options, "engine") and (is_gin or is_rows):
            rows = "--input" if "--input" in known else "--gin.TRAIN_FILE"
            if rows != "--input" and not getattr(options, "gin_file", None):
                rows = f"--gin_file=jsonl_step_by_step {rows}"
            flag = "--gin_file" if is_gin else rows
            return f"{command} does not take {argument!r}; did you mean {flag}={argument}?"
        return f"{command} does not take {argument!r}; {see}"
    flag, equals, value = argument.partition("=")
    if flag in known:
        return f"{flag} must come after the command: distill {command} {argument}"
    macro = flag.lstrip("-").upper().replace("-", "_")
    if macro in _macro_names():
        if not hasattr(options, "engine"):
            told = f"{command} has no flag {flag} and does not take macros"
            return f"{told}, so {macro} cannot be set here"
        shown = value if equals else "value"
        return f"{command} has no flag {flag}; did you mean --gin.{macro}={shown}?"
    if macro == "FIELD" and hasattr(options, "engine"):
        return f"{command} has no flag {flag}; use --gin.FIELDS=\"{{'input': 'NAME'}}\""
    near = alike(flag.lstrip("-"), [name.lstrip("-") for name in known])
    hint = f"closest: {', '.join(f'--{name}' for name in near)}" if near else ""
    return f"{command} has no flag {flag}; {hint or see}"


def _is_gin_file(name: str) -> bool:
    try:
        files.resolve_path(name)
    except UserError:
        return False
    return True


def _macro_names() -> set[str]:
    """Every macro that a gin file of the project declares."""
    root = files.gin_root()
    return {
        name
        for path in files.list_gin_files()
        for name in re.findall(r"^([A-Z][A-Z0-9_]*) *=", (root / path).read_text(), re.MULTILINE)
    }
