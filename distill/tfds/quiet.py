"""Keeps TFDS from printing what this project shows or checks itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from distill.common.native_output import without_notes
from distill.common.progress import loading_tensorflow


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Loads TFDS. Within the block its log shows errors alone, and its bars are off.

    The bars stay off in this process: TFDS does not tell whether they were on.
    """
    with loading_tensorflow():
        import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with without_notes():
            yield
    finally:
        absl.setLevel(level)
