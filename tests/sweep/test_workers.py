"""A stopped sweep leaves no process behind, and its runs have saved their state."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from distill.config import files
from distill.results import store

pytestmark = pytest.mark.slow
SMOKE = str(files.gin_root() / "gin" / "sweeps" / "smoke.toml")
PATIENCE = 600  # seconds; two workers start jax, perhaps on cores that others use


def _wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} took more than {PATIENCE} s"
        time.sleep(0.2)


def _is_empty(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def _trains(log: pathlib.Path) -> bool:
    return bool(re.search(r"loss \d", log.read_text()))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_the_workers_of_a_stopped_sweep_save_and_end(number, code, tmp_path):
    command = [sys.executable, "-m", "distill.cli", "sweep", SMOKE, f"--out={tmp_path}"]
    demo = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, text=True)
    try:
        logs = lambda: [*(tmp_path / "runs").glob("*.log")]  # noqa: E731
        _wait_for(lambda: len(logs()) == 2 and all(map(_trains, logs())), "training")
        os.killpg(demo.pid, number) if number == signal.SIGINT else demo.send_signal(number)
        _, told = demo.communicate(timeout=PATIENCE)
        assert demo.returncode == code and "Traceback" not in told, told
        _wait_for(lambda: _is_empty(demo.pid), "the end of the workers")
        for log in logs():
            last = log.read_text().splitlines()[-1]
            assert re.fullmatch(r"stopped by SIGTERM: step \d+ is saved; .*", last), last
    finally:
        if not _is_empty(demo.pid):
            os.killpg(demo.pid, signal.SIGKILL)


MICRO_TEXT = """
seeds = [1, 2]
gin_files = ["tickets_finetune"]
[macros]
{macros}
[axes.labels]
macro = "NUM_LABELS"
values = [40, 60]
"""


def test_a_sweep_killed_at_three_moments_does_nothing_twice(tmp_path, micro):
    """While it starts, while runs train, and once a run is recorded: then it is resumed."""
    settings = [text for text in micro if not text.startswith(("NUM_LABELS", "TRAIN_STEPS"))]
    macros = "\n".join([*settings, "TRAIN_STEPS = 400", "LAYOUT = 'packed'"])
    path, out = tmp_path / "s.toml", tmp_path / "out"
    path.write_text(MICRO_TEXT.format(macros=macros))
    command = [sys.executable, "-m", "distill.cli", "sweep", str(path), f"--out={out}"]
    logs = lambda: [*(out / "runs").glob("*.log")]  # noqa: E731
    moments = (
        lambda: len(logs()) == 2,
        lambda: any(re.search(r"training: .*loss", log.read_text()) for log in logs()),
        lambda: (out / "records.jsonl").exists() and len(store.read(out)) >= 1,
    )
    for moment in moments:
        sweep = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait_for(moment, "the moment to kill")
            os.killpg(sweep.pid, signal.SIGKILL)  # the workers too: nobody saves anything
            sweep.wait()
            _wait_for(lambda pid=sweep.pid: _is_empty(pid), "the end of the workers")
        finally:
            if not _is_empty(sweep.pid):
                os.killpg(sweep.pid, signal.SIGKILL)
    done = {record.run: record for record in store.read(out)}
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    records = store.read_all(out)
    assert len(records) == len({record.run for record in records}) == 4
    assert all(record.is_done and record.attempt == 1 for record in records)
    assert done.items() <= {record.run: record for record in records}.items()
    for record in records:
        lines = (out / record.folder / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines if '"loss"' in line]
        assert steps == list(range(2, 401, 2)), "a step is logged once"
        log = (out / "runs" / f"{record.run}.log").read_text()
        assert log.count("step 400: validation accuracy") == 1
