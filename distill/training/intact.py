"""Digests of a checkpoint's files: written before it has its name, compared before it is used.

<step>/digests.json    {"step": n, "files": {name: {"bytes", "sha256"}}}; every local checkpoint
                       gets one before it has its name, those in a bucket have none

OCDBT has checksums of its index, but not of the values: a flipped bit of a parameter would go
unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import os

import orbax.checkpoint as ocp
from etils import epath

from distill.common.atomic import write_json
from distill.common.digests import describe_files, find_damage
from distill.common.text_files import parse_json

DIGESTS = "digests.json"
# What every checkpoint has at the least
_STEP_METADATA = "_CHECKPOINT_METADATA"
_METADATA = (_STEP_METADATA, "default/_METADATA")
# Orbax writes these when it gives the folder its name, after the digests.
_LATER = {DIGESTS, _STEP_METADATA, "commit_success.txt"}


class SealedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):  # type: ignore[misc]  # no types
    """The scratch folder of a checkpoint, which gets its digests before it is renamed."""

    async def finalize(self) -> None:
        """Writes the digests, then renames the folder."""
        if self.get_final().name.isdigit():  # Orbax gives its parts their names the same way
            await asyncio.to_thread(write_digests, self.get(), int(self.get_final().name))
        await super().finalize()


def write_digests(step_folder: epath.Path, step: int) -> None:
    """Writes digests.json for the files that are in a local folder, which is to be of `step`."""
    root = os.fspath(step_folder)
    paths = (os.path.join(at, name) for at, _, files in os.walk(root) for name in files)
    names = sorted(os.path.relpath(path, root) for path in paths)
    described = describe_files(step_folder, (name for name in names if name not in _LATER))
    write_json(step_folder / DIGESTS, {"step": step, "files": described})


def find_checkpoint_damage(step_folder: epath.Path, contents: bool | None = None) -> str | None:
    """What is wrong with a checkpoint's files; None if nothing is, or if it has no digests.

    Args:
      step_folder: of the checkpoint.
      contents: as of `digests.find_damage`.
    """
    path = step_folder / DIGESTS
    if not path.exists():
        return next(filter(None, (_find_unreadable(step_folder, n) for n in _METADATA)), None)
    try:
        content = json.loads(path.read_bytes())
        described, step = content["files"], content["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        described, step = None, None
    if described is not None and str(step) != step_folder.name:
        return f"its files belong to step {step}"
    damage = find_damage(step_folder, described, contents)
    if damage is None and (step_folder / _STEP_METADATA).exists():
        return _find_unreadable(step_folder, _STEP_METADATA)  # the one file without a digest
    return damage


def has_digests(step_folder: epath.Path) -> bool:
    """Whether the files of a checkpoint can be compared with what was written."""
    return bool((step_folder / DIGESTS).exists())


def _find_unreadable(step_folder: epath.Path, name: str) -> str | None:
    """What is wrong with a file that Orbax reads as JSON objects; None if nothing is."""
    path = step_folder / name
    if not path.is_file():
        return f"file {name} is missing"
    try:
        content = parse_json(path.read_bytes())
    except ValueError:
        content = None
    return None if isinstance(content, dict) else f"file {name} cannot be parsed"
