"""The folder of a run that was given none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distill.common.digests import sha256_text
from distill.config import macros

# Where the data lie does not name a run: their contents are compared when it resumes.
_PLACES = frozenset({"RAW_DIR", "VOCABULARY_PATH"})
_READABLE = re.compile(r"[\w.+=-]{1,60}", re.ASCII)


def default_run_dir(
    gin_files: Sequence[str], overrides: Sequence[str], engine: str | None = None
) -> str:
    """The folder of a run that was given none: the same for the same command, so that it resumes.

    Args:
      gin_files: names or paths, the experiment first.
      overrides: `NAME=value` texts.
      engine: as given by --engine.

    Returns:
      `runs/`, the stems of the files, and the overrides sorted by name, or eight digits of their
      digest where they are long or hold what does not belong in a name.
    """
    stems = [name.split("/")[-1].removesuffix(".gin") for name in gin_files]
    settings = dict(macros.parse_override(text) for text in overrides)
    settings |= {"ENGINE": engine} if engine else {}
    values = {name: text.strip("'") for name, text in settings.items()}
    parts = [f"{name}={values[name]}" for name in sorted(values.keys() - _PLACES)]
    text = "-".join(parts)
    if parts and not _READABLE.fullmatch(text):
        text = sha256_text(*parts)[:8]
    return "runs/" + "-".join([*stems, *([text] if parts else [])])
