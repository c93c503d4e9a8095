"""Files of text and of JSON lines, read with errors that name the file, the line and the fix."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from distill.common.atomic import is_local
from distill.errors import UserError

LOOKED_AT = 5000  # names of a folder
BOM = b"\xef\xbb\xbf"
_OTHERS = {  # first bytes of a file -> its encoding
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_TOML_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def read_bytes(path: epath.Path, fix: str = "") -> bytes:
    """The content of a file (see `check_file`)."""
    check_file(path, fix)
    with reading(path):
        return path.read_bytes()


@contextlib.contextmanager
def reading(path: epath.PathLike) -> Iterator[None]:
    """Names the file where reading it fails within the block.

    Raises:
      UserError: the disk, or the file system, does not give the content.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def check_file(path: epath.Path, fix: str = "") -> None:
    """Raises an error that names the closest files of its folder if there is no such file.

    Args:
      path: the file.
      fix: a sentence for the error message: what to do about a missing file.

    Raises:
      UserError: there is no such file, or it cannot be read.
    """
    try:
        _check_file(path, fix)
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in it
        reason = getattr(error, "strerror", None) or error
        what = f"{str(path)[:200]!r} cannot be read: {reason}"
        raise UserError(_with_fix(what, fix)) from error


def _with_fix(what: str, fix: str) -> str:
    return f"{what}. {fix}" if fix else what


def _check_file(path: epath.Path, fix: str) -> None:
    if path.is_dir():
        raise UserError(_with_fix(f"{path} is a folder, expected a file", fix))
    if not path.exists():
        raise UserError(_with_fix(f"{path} does not exist; {_what_is_there(path)}", fix))
    if is_local(path) and not stat.S_ISREG(os.stat(path).st_mode):
        what = (
            f"{path} is a pipe or a device, expected a regular file, because it is read more than "
            "once: save its content to a file first"
        )
        raise UserError(_with_fix(what, fix))
    with path.open("rb") as file:
        file.read(1)


def _what_is_there(path: epath.Path) -> str:
    """What there is in the place of a missing file, or of the first missing folder above it."""
    missing, folder = path, path.parent
    while folder != folder.parent and not folder.exists():
        missing, folder = folder, folder.parent
    if not folder.is_dir():
        return f"{folder} is a file, expected a folder"
    start = "" if missing == path else f"the folder {missing} does not exist; "
    names = first_names(folder)
    if not names:
        return f"{start}its folder is empty"
    near = difflib.get_close_matches(missing.name, names)
    place = "its folder" if missing == path else folder
    if not near:
        some = "" if len(names) < LOOKED_AT else f" among the first {LOOKED_AT:,}"
        return f"{start}no similar name{some} in {place}"
    return f"{start}closest in {place}: {', '.join(near)}"


def first_names(folder: epath.Path) -> list[str]:
    """Names in a folder for a hint: LOOKED_AT of them at most, as a hint has to come soon."""
    if not is_local(folder):
        return [each.name for each in itertools.islice(folder.iterdir(), LOOKED_AT)]
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, LOOKED_AT)]


def parse_json(
    content: bytes | str, hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """The value of a JSON text, of which nothing is known yet: callers check what they read.

    Args:
      content: the text.
      hook: makes the value of each object, from its fields in their order; None makes a dict.

    Raises:
      ValueError: text that is not UTF-8 or not JSON, a number of thousands of digits, or lists in
        lists without an end: all that `json.loads` takes for an error of one type.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        return json.loads(text, object_pairs_hook=hook)
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None
    except ValueError as error:
        raise in_our_words(error) from None


def parse_toml(text: str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
      ValueError: text that is not TOML (a TOMLDecodeError), an integer of thousands of digits, or
        lists in lists without an end.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("lists or tables nested too deeply") from None
    except ValueError as error:
        raise in_our_words(error) from None


def read_toml(text: str, where: str, fix: str = "") -> dict[str, Any]:
    """The content of a TOML text of a file.

    Args:
      text: the content of the file.
      where: the file, as messages name it.
      fix: a sentence for the error message: what was expected.

    Raises:
      UserError: text that `parse_toml` refuses; names the line.
    """
    try:
        return parse_toml(text)
    except ValueError as error:
        match = _TOML_ERROR.fullmatch(str(error))
        if match is None:
            raise UserError(_with_fix(f"{where}: not TOML ({error})", fix)) from None
        place = f"{where}:{match[2]}" if match[2] else where
        column = f", column {match[3]}" if match[3] else " at the end of the file"
        raise UserError(_with_fix(f"{place}: not TOML ({match[1]}{column})", fix)) from None


def too_many_digits(text: str) -> str | None:
    """What is wrong with an integer that Python does not read for its length; None for others."""
    digits = text.strip().lstrip("+-").replace("_", "")
    most = sys.get_int_max_str_digits()
    if not digits.isdecimal() or not 0 < most < len(digits):
        return None
    return f"an integer of {len(digits):,} digits, expected at most {most:,}"


def in_our_words(error: ValueError) -> ValueError:
    """An error of a parser; that for an integer of too many digits without Python's advice."""
    if "set_int_max_str_digits" not in str(error):
        return error
    return ValueError(f"an integer of more than {sys.get_int_max_str_digits():,} digits")


def read_text(path: epath.Path, fix: str = "") -> str:
    """The content of a file of text (see `check_file`), without a byte order mark.

    Raises:
      UserError: it is not UTF-8; names the line.
    """
    content = read_bytes(path, fix)
    check_encoding(path, content[:4])
    content = content.removeprefix(BOM)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 ({error.reason}). {fix}".strip()) from None


def check_encoding(path: epath.PathLike, first: bytes) -> None:
    """Refuses a text file that begins like one of another encoding than UTF-8.

    Args:
      path: the file.
      first: its first bytes, at least 4 if it has them.

    Raises:
      UserError: names the encoding, and a command that converts the file.
    """
    name = epath.Path(path).name
    for mark, encoding in _OTHERS.items():
        if first.startswith(mark):
            raise UserError(
                f"{path} is {encoding}, expected UTF-8; save it as UTF-8, e.g. with "
                f"`iconv -f {encoding} -t UTF-8 {name} > utf8_{name}`"
            )


def not_utf8(where: str, line: bytes) -> UserError:
    """The error for a line that is not UTF-8: its first bad byte, and how to convert the file.

    Args:
      where: file and line.
      line: the line.
    """
    if b"\0" in line:
        return UserError(f"{where}: not text: the line has a NUL byte; expected a file in UTF-8")
    try:
        line.decode("utf-8")
        start = 0
    except UnicodeDecodeError as error:
        start = error.start
    shown = line[start : start + 1].decode("cp1252", "replace")
    meant = f" ({shown!r} in Windows-1252)" if shown.isprintable() and shown != "\ufffd" else ""
    return UserError(
        f"{where}: not UTF-8: byte 0x{line[start : start + 1].hex()}{meant} at position "
        f"{start + 1}; save the file as UTF-8 (`iconv -f WINDOWS-1252 -t UTF-8` converts "
        "Windows-1252)"
    )


class FieldTwice(ValueError):
    """A field that an object has twice, of which `json.loads` would keep the last."""


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, each of whose fields stands there once.

    Raises:
      FieldTwice: a field stands there twice.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FieldTwice(f"the field {twice!r} occurs twice in one object; remove one of them")
    return fields


def json_object(line: bytes, where: str, unique: bool = True) -> dict[str, Any]:
    """One line of a JSON-lines file as a dict.

    Args:
      line: the line.
      where: what error messages call it, e.g. "rows.jsonl:7".
      unique: whether an object must not have a field twice, of which the last would count.

    Raises:
      UserError: text that is not UTF-8, not JSON or not an object; an object, within it too, that
        has a field twice.
    """
    try:
        fields = parse_json(line.rstrip(b"\r\n"), unique_fields if unique else None)
    except FieldTwice as error:
        raise UserError(f"{where}: {error}") from None
    except UnicodeDecodeError as error:
        raise not_utf8(where, line) from error
    except json.JSONDecodeError as error:
        several = "; this one goes on in the next line" if line.strip() in (b"{", b"[") else ""
        raise UserError(
            f"{where}: not JSON ({error.msg}, column {error.colno}); expected one JSON object per "
            f"line{several}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{where}: not JSON ({error}); expected one JSON object per line"
        ) from error
    if not isinstance(fields, dict):
        raise UserError(f"{where}: got a JSON {type(fields).__name__}, expected an object")
    return fields


def json_lines(
    path: epath.Path, fix: str = "", unique: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and objects of the lines of a file that are not blank.

    Args:
      path: a file of one JSON object a line.
      fix: a sentence for the error message: what to do about a missing file.
      unique: as of `json_object`.

    Raises:
      UserError: a missing file, or a line that is not a JSON object.
    """
    check_file(path, fix)
    name = os.fspath(path)
    with reading(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                check_encoding(path, line[:4])
                line = line.removeprefix(BOM)
            if line.strip():
                yield number, json_object(line, f"{name}:{number}", unique)


def read_json(path: epath.PathLike) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
      UserError: the file is missing or does not parse.
    """
    try:
        content = parse_json(epath.Path(path).read_bytes())
    except OSError:
        raise UserError(f"{path} does not exist: is this a run folder?") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    return content
