"""Fixtures that several folders of tests use."""

from __future__ import annotations

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder with the authors' released data and the T5 vocabulary, or a skip.

    The environment variable DISTILL_SHARED names it; without it, `shared` next to the
    checkout is tried. Its content is licensed separately and not part of the project.
    """
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared"
    folder = pathlib.Path(os.environ.get("DISTILL_SHARED") or beside)
    if not (folder / "data").is_dir():
        pytest.skip(f"no released data in {folder}; set DISTILL_SHARED to the folder that has it")
    return folder
