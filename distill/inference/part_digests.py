"""Digests of finished parts, which show that a part was changed after it was written.

    <folder>/digests/part-00000-of-00012.jsonl.sha256    a line as `sha256sum` writes it

The digest is written before its part, so a part of this version has one.
"""

from __future__ import annotations

import hashlib
import re

from etils import epath

from distill.common.atomic import write_text
from distill.common.phrases import have, number_of
from distill.common.text_files import read_bytes
from distill.errors import UserError

FOLDER = "digests"


def write_digest(part: epath.Path, content: bytes) -> None:
    """Writes the digest of a part that is about to be written."""
    path = _path(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{hashlib.sha256(content).hexdigest()}  {part.name}\n")


def written_digests(folder: epath.Path) -> set[str]:
    """Names of the parts whose digests a folder has."""
    digests = folder / FOLDER
    names = [path.name for path in digests.iterdir()] if digests.is_dir() else []
    return {name.removesuffix(".sha256") for name in names if name.endswith(".sha256")}


def check_digest(part: epath.Path, digest: str) -> None:
    """Compares the digest of a part that is there with the one that was written.

    Raises:
      UserError: they differ; says how to write the part again, and how to keep it.
    """
    path = _path(part)
    words = read_bytes(path).split()
    if not words or not re.fullmatch(rb"[0-9a-f]{64}", words[0]):
        raise UserError(
            f"{path} is damaged: it does not start with a SHA-256, so it cannot be compared with "
            f"that of {part}. Delete it to use the part as it is; to write the part again, delete "
            "the part and run the same `distill predict` command"
        )
    if words[0] != digest.encode():
        raise UserError(
            f"{part} has changed since it was written: its SHA-256 is not the one in {path}. "
            "Delete the part and run the same `distill predict` command again to write it again; "
            "to keep the change, delete the .sha256 file"
        )


def warning(count: int) -> str:
    """What is told of parts without a digest."""
    return (
        f"warning: {number_of(count, 'part')} {have(count)} no digest (written by an earlier "
        "version, or the digest was deleted), so later changes are not noticed"
    )


def _path(part: epath.Path) -> epath.Path:
    return part.parent / FOLDER / f"{part.name}.sha256"
