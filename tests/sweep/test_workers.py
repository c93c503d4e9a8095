"""A stopped demo leaves no process behind, and its runs have saved their state."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.slow
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
def test_the_workers_of_a_stopped_demo_save_and_end(number, code, tmp_path):
    command = [sys.executable, "-m", "distill.sweep.demo", "smoke", "--out", str(tmp_path)]
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
