"""Files that a command replaces only if it wrote them.

Some contents say which command wrote them (`check_content`). Rows do not, so a file beside them
does (`check_own`, `writing_own`):

    <file>.settings.json   {"command": "distill annotate", "sha256": digest of the file}

The digest is null while the file is being written: after a kill either version may be there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from etils import epath

from distill.common.atomic import write_json
from distill.common.digests import sha256
from distill.common.text_files import parse_json
from distill.errors import UserError

SETTINGS = ".settings.json"
_LONGEST = 256_000_000  # bytes of a file whose content is looked at


def check_content(
    path: epath.PathLike, flag: str, command: str, is_own: Callable[[bytes], bool]
) -> None:
    """Refuses to replace a file whose content is not what the command writes.

    Args:
      path: the file to write; it may be absent or empty.
      flag: the flag that gave it.
      command: the command, such as "distill evaluate".
      is_own: whether a content is the command's; a ValueError counts as no.

    Raises:
      UserError: another content.
    """
    path = epath.Path(path)
    if not path.exists() or path.is_dir():
        return  # writing a folder is refused elsewhere
    size = path.stat().length
    if not size:
        return  # nothing is lost
    with contextlib.suppress(ValueError):
        if size <= _LONGEST and is_own(path.read_bytes()):
            return
    raise _foreign(path, flag, command)


def check_own(
    path: epath.PathLike,
    flag: str,
    command: str,
    beside: Iterable[epath.PathLike] = (),
    earlier: str = "",
) -> None:
    """Refuses to replace a file that `writing_own` did not write, or that has changed since.

    Args:
      path: the file to write; it may be absent or empty.
      flag: the flag that gave it.
      command: the command, such as "distill annotate".
      beside: further files that are written, or deleted, with it.
      earlier: what to do about a file that the command wrote before it kept such records.

    Raises:
      UserError: there is such a file, or one beside it.
    """
    path = epath.Path(path)
    record = _read_record(path)
    is_ours = record.get("command") == command
    for each in map(epath.Path, (path, *beside)):
        if not is_ours and each.is_file() and each.stat().length:
            note = "" if _record_path(path).exists() else earlier
            if each == path and isinstance(record.get("command"), str):
                note = f"`{record['command']}` wrote it"
            raise _foreign(each, flag, command, note)
    digest = record.get("sha256")
    if digest is not None and path.is_file() and sha256(path) != digest:
        raise UserError(
            f"{path} has changed since `{command}` wrote it; choose another {flag}, or delete the "
            "file"
        )


@contextlib.contextmanager
def writing_own(path: epath.PathLike, command: str) -> Iterator[None]:
    """Records that the command writes the file within the block; see `check_own`."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(_record_path(path), {"command": command, "sha256": None})
    yield
    write_json(_record_path(path), {"command": command, "sha256": sha256(path)})


def _record_path(path: epath.Path) -> epath.Path:
    return path.parent / f"{path.name}{SETTINGS}"


def _read_record(path: epath.Path) -> dict[str, object]:
    """What the record says; empty where there is none that can be read."""
    record = _record_path(path)
    if not record.is_file() or record.stat().length > _LONGEST:
        return {}
    try:
        content = parse_json(record.read_bytes())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _foreign(path: epath.Path, flag: str, command: str, note: str = "") -> UserError:
    return UserError(
        f"{path} exists and `{command}` did not write it; choose another {flag}, or delete the file"
        f"{f'. {note}' if note else ''}"
    )
