"""Fixtures for tests of `distill launch`."""

from __future__ import annotations

import json
import os
import pathlib
import sys

import pytest
from cloud import STUB, TOOLS, Cloud, settings
from work_lists import ONE_HOST, RUNS, line

from distill.launch import state as states
from distill.launch import steps, work_list


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


@pytest.fixture
def path(cloud: Cloud) -> pathlib.Path:
    """A list of three runs, whose launches are planned, each on one host."""
    place = cloud.folder / "work.jsonl"
    place.write_text("".join(json.dumps(line(run)) + "\n" for run in RUNS))
    for item in work_list.read(str(place)):
        where = work_list.state_path(str(place), item)
        own = settings(topology=ONE_HOST, name=item.name, run_dir=item.run_dir)
        states.LaunchState(where, own).note("planned")
    return place


@pytest.fixture
def names(path: pathlib.Path) -> list[str]:
    """The names of the launches."""
    return [item.name for item in work_list.read(str(path))]
