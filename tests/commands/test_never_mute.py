"""No command is mute for more than five seconds, whatever it does before and after its work.

A command runs as a user starts it, with nothing cached; the time between two of its lines is
measured. A line is due after PERIOD seconds of silence. A library that is being loaded can keep
the thread that speaks waiting for up to a second, and longer on a machine that is overloaded: on
an idle one the bound is five seconds.
"""

import os
import subprocess
import sys
import threading
import time

import pytest

from distill.common.progress import PERIOD


def _longest(load):
    """Seconds that a command may be mute on a machine with so many runnable processes."""
    return PERIOD + max(1.0, load / os.cpu_count())


def _silences(command, environment):
    """Seconds before each line of a command, and before its end; its output."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    times, lines = [time.monotonic()], []

    def read():
        for line in process.stdout:
            times.append(time.monotonic())
            lines.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait()
    reader.join()
    gaps = [(b - a, line) for a, b, line in zip(times, times[1:], lines, strict=False)]
    return code, gaps, "".join(lines)


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "DISTILL_CACHE_DIR": str(tmp_path / "cache")}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "loss-weights"])
def test_a_command_on_an_empty_cache(command, micro, tmp_path, environment):
    argv = [sys.executable, "-m", "distill.cli", command, "--gin_file=tickets_step_by_step"]
    argv += [f"--run_dir={tmp_path / 'run'}"] if command == "train" else []
    argv += [f"--gin.{text}" for text in micro]
    code, gaps, shown = _silences(argv, environment)
    assert code == 0, shown
    assert max(gaps)[0] < _longest(max(os.getloadavg())), max(gaps)
    if command == "train":
        assert "loading TensorFlow ... " in shown
        argv = [sys.executable, "-m", "distill.cli", "predict", f"--run_dir={tmp_path / 'run'}"]
        code, gaps, shown = _silences([*argv, "my fan seems burnt ."], environment)
        assert code == 0, shown
        assert max(gaps)[0] < _longest(max(os.getloadavg())), max(gaps)
