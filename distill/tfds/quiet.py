"""Keeps TFDS from printing what this project shows or checks itself."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator

from distill.common.native_output import without_notes
from distill.common.progress import loading_tensorflow


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Loads TFDS. Within the block its log shows errors alone, and its bars are off.

    The bars stay off in this process: TFDS does not tell whether they were on. Temporary folders
    that are made within the block are removed after it, as TFDS leaves empty ones behind.
    """
    with loading_tensorflow():
        import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with without_notes(), _removed_temporary_folders():
            yield
    finally:
        absl.setLevel(level)


@contextlib.contextmanager
def _removed_temporary_folders() -> Iterator[None]:
    """Has `tempfile` work in a folder that is removed at the end."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
