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
        flags = _flags_of_file(argument, options, known) if hasattr(options, "engine") else ""
        hint = f"did you mean {flags}={argument}?" if flags else see
        return f"{command} does not take {argument!r}; {hint}"
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
    given, names = flag.lstrip("-"), [name.lstrip("-") for name in known]
    near = alike(given, names) or [name for name in names if name.startswith(f"{given}_")]
    hint = f"closest: {', '.join(f'--{name}' for name in near)}" if near else ""
    return f"{command} has no flag {flag}; {hint or see}"


def _flags_of_file(name: str, options: argparse.Namespace, known: Sequence[str]) -> str:
    """The flags that a file of rows or a gin file belongs to; "" if it seems to be neither."""
    suffix = name.rpartition(".")[2]
    if suffix in _ROWS:
        if "--input" in known:
            return "--input"
        first = "" if getattr(options, "gin_file", None) else "--gin_file=jsonl_step_by_step "
        return f"{first}--gin.TRAIN_FILE"
    is_gin = suffix == "gin" or ("--gin_file" in known and _is_gin_file(name))
    return "--gin_file" if is_gin else ""


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
