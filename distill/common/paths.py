"""Paths that users give, checked before anything is done with them."""

from __future__ import annotations

import os

from distill.errors import UserError

_BUCKETS = ("gs", "s3", "az", "hf")  # schemes that etils.epath opens


def check_path(path: str, where: str) -> None:
    """Refuses a text that no file can have as its name.

    Args:
      path: a path, local or in a bucket; "" is let through.
      where: the flag or macro that gave it.

    Raises:
      UserError: a URL of another kind, a NUL character, an unpaired surrogate.
    """
    if "\0" in path:
        raise UserError(f"got {where} {path!r}, which contains a NUL character: no path can")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UserError(
            f"got {where} {path!r}, which contains an unpaired surrogate: no path can"
        ) from error
    scheme, is_url, _ = path.partition("://")
    if is_url and scheme not in _BUCKETS:
        expected = f"a local path or one in a bucket ({', '.join(f'{b}://' for b in _BUCKETS)})"
        hint = f"; did you mean {path[7:]}?" if path.startswith("file:///") else ""
        raise UserError(f"got {where} {path!r}, expected {expected}{hint}")


def check_output_file(path: str, where: str) -> None:
    """Refuses a folder, a pipe or a device as the file to write.

    Args:
      path: of the file.
      where: the flag that gave it.

    Raises:
      UserError: the path is one of these, or ends like a folder.
    """
    target = os.path.expanduser(path)
    kind = ""
    if os.path.isdir(target) or path.endswith("/"):
        kind = "a folder"
    elif os.path.exists(target) and not os.path.isfile(target):
        kind = "a pipe or a device"
    if kind:
        raise UserError(f"got {where} {path!r}, which is {kind}; expected the name of a file")


def is_bucket(text: str) -> bool:
    """Whether a text is a path in a bucket."""
    scheme, is_url, _ = text.partition("://")
    return bool(is_url) and scheme in _BUCKETS
