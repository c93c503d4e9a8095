"""Paths that users give, checked before anything is done with them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

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


def nearest_folder(path: str, where: str) -> str:
    """The folder itself, or the nearest that exists above it.

    Args:
      path: of a local folder; it may be absent.
      where: the flag or variable that gave it, as `--flag=value`.

    Raises:
      UserError: a file has the name of the folder, or of one above it.
    """
    place = os.path.abspath(os.path.expanduser(path))
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise UserError(f"got {where}, but {place} is a file; expected a folder")
    return place


def check_output_file(path: str, where: str) -> None:
    """Refuses a folder, a pipe or a device as the file to write.

    Args:
      path: of the file.
      where: the flag that gave it.

    Raises:
      UserError: the path is one of these, or ends like a folder; a file has the name of a folder
        above it.
    """
    target = os.path.expanduser(path)
    kind = ""
    if os.path.isdir(target) or path.endswith("/"):
        kind = "a folder"
    elif _is_device(target):
        kind = "a pipe or a device"
    if kind:
        raise UserError(f"got {where} {path!r}, which is {kind}; expected the name of a file")
    if not is_bucket(path):
        nearest_folder(os.path.dirname(target) or ".", f"{where}={path}")


def _is_device(path: str) -> bool:
    """Whether a path is no regular file; /dev/stdout is none, even where it leads to one."""
    absolute = os.path.abspath(path)
    if absolute.startswith(("/dev/", "/proc/")) and not absolute.startswith("/dev/shm/"):
        return True
    return os.path.exists(path) and not os.path.isfile(path)


def check_distinct(
    outputs: Iterable[tuple[str, str]], inputs: Iterable[tuple[str, str]], kind: str = "reads"
) -> None:
    """Refuses to write where another path already leads.

    Two names of one file or folder count as one, such as a link and its target.

    Args:
      outputs: names of flags, and the paths that they write.
      inputs: names of flags, and the paths that must be left as they are.
      kind: what the command does with the inputs, for the error message.

    Raises:
      UserError: an output is one of the inputs; names both flags.
    """
    inputs = list(inputs)
    for flag, path in outputs:
        for other, kept in inputs:
            if _is_same(path, kept):
                raise UserError(
                    f"got {flag} {path!r}, which is the same as {other} {kept!r}: the command "
                    f"{kind} that path, and would overwrite it; choose another {flag}"
                )


def _is_same(one: str, other: str) -> bool:
    if is_bucket(one) or is_bucket(other):
        return one.rstrip("/") == other.rstrip("/")
    one, other = os.path.expanduser(one), os.path.expanduser(other)
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)  # hard links
    except (OSError, ValueError):
        return False  # one of them does not exist yet


def path_exists(path: str) -> bool:
    """Whether a local path leads to a file or folder; one in a bucket is taken to exist."""
    return is_bucket(path) or os.path.exists(os.path.expanduser(path))


def check_bucket_package(path: os.PathLike | str) -> None:
    """Refuses a folder of checkpoints on gs:// if what Orbax needs there is missing.

    Raises:
      UserError: google-cloud-storage is not installed; names the command that installs it.
    """
    if not os.fspath(path).startswith("gs://"):
        return
    try:
        found = importlib.util.find_spec("google.cloud.storage")
    except ModuleNotFoundError:  # nothing of google.cloud is there
        found = None
    if found is None:
        raise UserError(
            f"{os.fspath(path)} needs the package google-cloud-storage, with which Orbax lists "
            "checkpoints: pip install 'distill-step-by-step[gcs]' "
            "(or pip install google-cloud-storage)"
        )


def is_bucket(text: str) -> bool:
    """Whether a text is a path in a bucket."""
    scheme, is_url, _ = text.partition("://")
    return bool(is_url) and scheme in _BUCKETS


def check_json_lines(path: str, flag: str) -> None:
    """Refuses the name of a file in another format for rows that are written as JSON lines.

    Args:
      path: the file to write.
      flag: that gave it.

    Raises:
      UserError: a suffix that is read as another format; "-".
    """
    if path == "-":
        raise UserError(f"got {flag}=-, expected the name of a file")
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".csv", ".tsv", ".parquet", ".arrow", ".gz"):
        stem = path[: -len(suffix)].removesuffix(".jsonl")
        raise UserError(
            f"got {flag}={path}, expected a name such as {stem}.jsonl: rows are written as JSON "
            f"lines, and {suffix} is read as another format"
        )
