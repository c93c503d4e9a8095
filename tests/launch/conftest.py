"""Fixtures for tests of `distill launch`."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest
from cloud import STUB, TOOLS, Cloud

from distill.launch import steps


@pytest.fixture
def cloud(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Stubs on the path instead of cloud tools, and no waiting."""
    monkeypatch.setenv("STUB_DIR", str(tmp_path))
    own = str(pathlib.Path(sys.executable).parent)  # python3 of the PATH may be a slow wrapper
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(STUB)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tools), own, os.environ["PATH"]]))
    monkeypatch.setattr(steps, "POLL", 0.0)
    monkeypatch.setattr(steps, "MISSES", 3)
    return Cloud(tmp_path)
