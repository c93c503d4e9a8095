"""Folders of files that several writers may make at once, any of whom may be killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from etils import epath


@contextmanager
def publishing(folder: epath.Path, mark: str) -> Iterator[epath.Path]:
    """A scratch folder whose files are moved to `folder` at the end, `mark` as the last.

    A reader who sees the mark sees all files, on gs:// too, where a folder cannot be renamed at
    once. Writers of one folder have to write the same bytes, so that files of two can stand
    together; a writer who is killed in between leaves a folder without the mark, which the next
    one completes.

    Args:
      folder: where readers look, local or gs://; its files come to lie side by side.
      mark: the name of the file that says the folder is complete; written by the caller.

    Yields:
      The scratch folder beside it, which is removed in any case.
    """
    scratch = folder.parent / f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}"
    scratch.mkdir(parents=True)
    try:
        yield scratch
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(scratch.iterdir(), key=lambda path: path.name == mark):
            path.replace(folder / path.name)
    finally:
        scratch.rmtree()
