"""Unpacks the released zip, and nothing that would lie outside its folder."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping

from etils import epath

from distill.common.atomic import atomic_directory
from distill.errors import UserError

FOLDER = "datasets"
_IGNORED = ("__MACOSX", ".DS_Store")
_BLOCK = 1 << 20
_ENCRYPTED = 1  # bit of a member's flags


def unpack(zip_path: epath.Path, folder: epath.Path, stamp: str) -> None:
    """Unpacks the released zip to `folder`, which appears when all of it is there.

    A first folder that all members share (`datasets/`) is left out, and so is what a
    Macintosh adds.

    Args:
      zip_path: the zip.
      folder: the folder to make. One whose stamp is the same is left as it is.
      stamp: what tells this zip from others, kept in `folder`.

    Raises:
      UserError: a zip that is damaged, empty, or has a member that is a link or would
        lie outside the folder; a folder that was made from something else.
    """
    mark = folder / ".unpacked"
    if folder.exists():
        if mark.exists() and mark.read_text() == stamp:
            return
        raise UserError(
            f"{folder} already exists, but was not unpacked from this {zip_path.name}; move it "
            "away, or choose another --output"
        )
    try:
        with zip_path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, zip_path)
            with atomic_directory(folder, mark.name) as scratch:
                _unpack_members(archive, members, scratch)
                (scratch / mark.name).write_text(stamp)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{zip_path} is not a complete zip file ({error}); remove it and fetch it again"
        ) from error


def _members(
    archive: zipfile.ZipFile, zip_path: epath.Path
) -> dict[tuple[str, ...], zipfile.ZipInfo]:
    """The files to unpack, by folders and name in the folder to make."""
    members = {}
    for info in archive.infolist():
        parts = _safe_parts(info, zip_path)
        if info.flag_bits & _ENCRYPTED:
            raise UserError(
                f"{zip_path} is protected by a password: this is not the released file; nothing "
                "was unpacked"
            )
        if parts and not info.is_dir() and not set(_IGNORED) & set(parts):
            members[parts] = info
    if not members:
        raise UserError(f"{zip_path} contains no files; remove it and fetch it again")
    for parts in members:
        above = next((parts[:n] for n in range(1, len(parts)) if parts[:n] in members), None)
        if above:
            raise UserError(
                f"{zip_path} contains {'/'.join(above)!r} both as a file and as a folder: this is "
                "not the released file; nothing was unpacked"
            )
    if {parts[0] for parts in members} == {FOLDER}:
        return {parts[1:]: info for parts, info in members.items()}
    return members


def _unpack_members(
    archive: zipfile.ZipFile,
    members: Mapping[tuple[str, ...], zipfile.ZipInfo],
    folder: epath.Path,
) -> None:
    for parts, info in members.items():
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as member, path.open("wb") as file:
            shutil.copyfileobj(member, file, _BLOCK)


def _safe_parts(info: zipfile.ZipInfo, zip_path: epath.Path) -> tuple[str, ...]:
    """The folders and name of a member.

    Raises:
      UserError: an absolute path, one with `..`, a backslash or a drive, or a link.
    """
    parts = tuple(part for part in info.filename.split("/") if part not in ("", "."))
    outside = info.filename.startswith("/") or ".." in parts or re.search(r"[\\:\0]", info.filename)
    if outside or stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(
            f"{zip_path} has the member {info.filename!r}, which is a link or lies outside its "
            "folder: this is not the released file; nothing was unpacked"
        )
    return parts
