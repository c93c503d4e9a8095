"""Copies of golden folders that tests change."""

from __future__ import annotations

import pytest
from odd_folder import Folder


@pytest.fixture
def untied(tmp_path):
    return Folder(tmp_path / "hf", "t5_1_1")


@pytest.fixture
def tied(tmp_path):
    return Folder(tmp_path / "hf", "t5")
