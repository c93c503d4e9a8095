"""Fills the templates of `distill new`: plain files, in which `{{name}}` stands for a value."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "templates"
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def render(template: str, values: Mapping[str, object]) -> str:
    """A template with its values.

    Args:
      template: name of a file in the folder of templates.
      values: by name; each as the format of the file writes it.

    Raises:
      KeyError: the template has a name without a value.
    """
    text = (_FOLDER / template).read_text()
    return _SLOT.sub(lambda match: str(values[match[1]]), text)


def toml(value: str | int | Iterable[str]) -> str:
    """A value as TOML writes it."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which JSON writes as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(toml, value))}]"


def make_variable(arguments: Iterable[str]) -> str:
    """Arguments of a shell command as the value of a variable of a Makefile."""
    quoted = " ".join(map(shlex.quote, arguments))
    return quoted.replace("$", "$$").replace("#", "\\#")


def one_line(text: str) -> str:
    """A text for a comment: on one line, and printable."""
    return "".join(c if c.isprintable() else " " for c in text)
