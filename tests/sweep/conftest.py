"""Sweep files for the tests."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest


@pytest.fixture
def write_sweep(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """(TOML text, name) -> the path of a file with it."""

    def write(text: str, name: str = "s") -> pathlib.Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return path

    return write
