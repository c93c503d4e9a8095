"""Arguments of the Python API: checked, and turned into what the commands take."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from distill.errors import UserError

if TYPE_CHECKING:
    from distill.data.examples import Example

    Row = str | Mapping[str, object] | Example

PathLike = str | os.PathLike[str]
Say = Callable[[str], None]
_Value = TypeVar("_Value")
# NAME, scope/NAME, module.function.parameter
_NAME = re.compile(r"[A-Za-z_][\w./]*", re.ASCII)


def check_progress(progress: Say | None) -> Say:
    """The function that takes lines of text; None is that which prints them on stderr.

    Raises:
      UserError: not a function.
    """
    from distill.common.progress import to_stderr

    if progress is None:
        return to_stderr
    if not callable(progress):
        raise _refusal("progress", progress, "a function that takes a string, or None")
    return progress


def check_flag(value: object, name: str) -> bool:
    """A switch.

    Args:
      value: what was given.
      name: of the argument.

    Raises:
      UserError: neither True nor False.
    """
    if not isinstance(value, bool):
        raise _refusal(name, value, "True or False")
    return value


def check_path_argument(path: PathLike, name: str) -> str:
    """A path with `~` expanded.

    Args:
      path: what was given, local or in a bucket.
      name: of the argument.

    Raises:
      UserError: not a path, an empty one, or one that no file can have.
    """
    from distill.common.paths import check_path

    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise _refusal(name, path, "a path (a string or a pathlib.Path)")
    check_path(text, name)
    return os.path.expanduser(str(text))


def check_gin_files(gin_files: PathLike | Sequence[PathLike]) -> list[str]:
    """Names of gin files.

    Raises:
      UserError: something else than names.
    """
    expected = "the name of a gin file, or a list of names"
    if isinstance(gin_files, str | os.PathLike):
        gin_files = [gin_files]
    if isinstance(gin_files, Mapping):
        raise _refusal("gin_files", gin_files, f"{expected}; values of macros are `overrides`")
    names = _listed("gin_files", gin_files, expected)
    for name in names:
        if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
            raise _refusal("gin_files", name, expected)
    return [str(os.fspath(name)) for name in names]


def check_rows(rows: Row | Iterable[Row], name: str = "rows") -> list[Row]:
    """Rows as a list; a single one is a list of one.

    Args:
      rows: what was given.
      name: of the argument.

    Raises:
      UserError: an object that does not hold rows, or a table, whose items are its columns.
    """
    from distill.data.examples import Example

    if isinstance(rows, str | Mapping | Example):
        return [rows]
    expected = "a list of strings, of mappings with the field `input`, or of Examples"
    if hasattr(rows, "columns") or hasattr(rows, "column_names"):
        expected += "; of a pandas table, table.to_dict('records')"
        raise UserError(f"got {name} of type {type(rows).__name__}, expected {expected}")
    return _listed(name, rows, expected)


def check_overrides(overrides: Mapping[str, object] | Sequence[str]) -> list[str]:
    """`NAME=value` texts.

    Raises:
      UserError: neither values by macro nor such texts; a value that cannot be written.
    """
    if isinstance(overrides, str):
        return [overrides]
    expected = "values by macro, e.g. {'SEED': 1}, or strings, e.g. ['SEED=1']"
    if not isinstance(overrides, Mapping):
        texts = _listed("overrides", overrides, expected)
        for text in texts:
            if not isinstance(text, str):
                raise _refusal("overrides", text, expected)
            if text.startswith("--gin."):
                raise UserError(f"got the override {text!r}: leave out '--gin.'")
        return texts
    for name in overrides:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _refusal("overrides", name, "the name of a macro, e.g. 'SEED'")
    return [f"{name}={_literal(name, value)}" for name, value in overrides.items()]


def _literal(name: str, value: object) -> str:
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    try:
        return repr(_plain(value))
    except (ValueError, RecursionError) as error:  # thousands of digits, or a list in itself
        raise UserError(f"got a value of {name} that cannot be written: {error}") from error


def _plain(value: object) -> object:
    """The value in Python's own types; NumPy's and JAX's arrays and scalars have `tolist`."""
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, str):
        return "".join(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    return value


def _listed(name: str, values: Iterable[_Value], expected: str) -> list[_Value]:
    if isinstance(values, bytes | bytearray):
        raise _refusal(name, values, expected)
    try:
        items = iter(values)
    except TypeError as error:
        raise _refusal(name, values, expected) from error
    return list(items)


def _refusal(name: str, value: object, expected: str) -> UserError:
    return UserError(f"got {name} {reprlib.repr(value)}, expected {expected}")
