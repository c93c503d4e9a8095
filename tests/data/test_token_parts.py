"""A cache that workers write in parts: the bytes of one process, also after kill -9."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from distill.config import resolve
from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data import token_parts
from distill.data.checked_rows import read_rows
from distill.errors import UserError

resolve.import_tasks()
ROWS = 97


def _spec(folder: pathlib.Path, **settings: object) -> DataSpec:
    path = folder / "rows.jsonl"
    if not path.exists():
        rows = [
            {"input": f"row nümber {n} " + "x " * (n % 9), "label": "yes" if n % 2 else "no"}
            | ({"rationale": f"since {n} is {n % 2}"} if n % 5 else {})
            for n in range(ROWS)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"train_file": str(path), "test_file": str(path)}
    settings = {
        "method": "step_by_step",
        "vocabulary": "words",
        "dataset_options": options,
    } | settings
    return DataSpec("jsonl", **settings)


def _build(monkeypatch, place, spec, workers, part_rows=20):
    """Builds in a cache folder of its own; gives name and content of each file."""
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(place))
    monkeypatch.setenv(token_parts.WORKERS, str(workers))
    monkeypatch.setattr(token_parts, "PART_ROWS", part_rows)
    folder = pathlib.Path(caches.load_cache(spec).folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_workers_write_the_bytes_of_one_process(monkeypatch, tmp_path):
    spec = _spec(tmp_path)
    one = _build(monkeypatch, tmp_path / "one", spec, 1, part_rows=1000)
    two = _build(monkeypatch, tmp_path / "two", spec, 2)
    assert two == one
    assert [path.name for path in (tmp_path / "two").iterdir()] == [
        path.name for path in (tmp_path / "one").iterdir()
    ]  # no parts are left


def test_the_number_of_workers_is_checked(monkeypatch):
    for text in ("0", "x", "-1"):
        monkeypatch.setenv(token_parts.WORKERS, text)
        with pytest.raises(UserError, match=f"got --cache_workers={text}, expected a whole"):
            token_parts.worker_count()


def _move(target, path, **_):
    """In place of `rmtree`: keeps the folder of the parts."""
    if os.fspath(path).endswith(".parts"):
        os.rename(path, target)


@pytest.mark.slow
def test_a_kill_keeps_finished_parts(monkeypatch, tmp_path):
    spec = _spec(tmp_path, vocabulary="bytes", input_length=160, target_length=96)
    one = _build(monkeypatch, tmp_path / "one", spec, 1, part_rows=1000)
    script = (
        "import sys, tasks; from distill.config.data import DataSpec;"
        "from distill.data import cache, token_parts; import json;"
        "token_parts.PART_ROWS = 20;"
        "cache.load_cache(DataSpec(**json.loads(sys.argv[1])))"
    )

    for after in (1, 3, 6):
        place = tmp_path / f"killed-{after}"
        environment = os.environ | {"DISTILL_CACHE_DIR": str(place), token_parts.WORKERS: "2"}
        process = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(dataclasses.asdict(spec))], env=environment
        )
        while len([*place.glob(".*.parts/[a-z]*")]) < after and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        time.sleep(2)  # workers see that their parent is gone
        kept = {path: path.stat().st_mtime_ns for path in place.glob(".*.parts/[a-z]*")}
        assert after <= len(kept)
        moved = functools.partial(_move, place / "kept")
        monkeypatch.setattr(caches.shutil, "rmtree", moved)
        assert _build(monkeypatch, place, spec, 1) == one
        monkeypatch.undo()
        for path, when in kept.items():
            assert (place / "kept" / path.name).stat().st_mtime_ns == when


@pytest.mark.slow
def test_a_worker_that_fails_or_dies_is_told(monkeypatch, tmp_path):
    spec = _spec(tmp_path)
    gone = dataclasses.replace(spec, vocabulary="sentencepiece", vocabulary_path="gone.model")
    monkeypatch.setattr(token_parts, "PART_ROWS", 20)
    with pytest.raises(UserError, match=r"^gone.model does not exist"):
        token_parts.tokenize(gone, read_rows(spec), tmp_path, tmp_path / "parts")
    original = subprocess.Popen

    def killed(*arguments, **settings):
        worker = original(*arguments, **settings)
        worker.kill()
        return worker

    monkeypatch.setattr(token_parts.subprocess, "Popen", killed)
    with pytest.raises(UserError, match=r"ended with signal 9; finished parts are kept: repeat"):
        _build(monkeypatch, tmp_path / "dead", spec, 2)
