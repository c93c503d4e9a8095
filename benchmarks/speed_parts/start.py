"""Start-up times of benchmarks/speed.py: commands that are run as a user runs them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.speed_parts.protocol import ROOT, Fields


def timed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Fields:
    """Runs a command; returns its seconds, CPU seconds and exit code."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    own = os.environ | {"PYTHONPATH": path, **(environment or {})}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=own, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found: Fields = {"wall": time.perf_counter() - start, "cpu": cpu, "code": done.returncode}
    if done.returncode:
        found["error"] = done.stderr.strip().splitlines()[-1:]
    return found


def distill(python: str, *arguments: str) -> list[str]:
    """A command of `distill`."""
    return [python, "-m", "distill.cli", *arguments]


def measure(python: str, run_dir: Path | None, text: str, rounds: int) -> dict[str, list[Fields]]:
    """Times imports, help, and the first answer of a student.

    Args:
      python: the interpreter of the native engine.
      run_dir: the student; None leaves its answer out.
      text: an input.
      rounds: how often each is run. The first answer may compile, later ones find the program.
    """
    commands = {
        "import distill": [python, "-c", "import distill"],
        "distill --help": distill(python, "--help"),
        "import jax": [python, "-c", "import jax"],
    }
    if run_dir is not None:
        command = distill(python, "predict", f"--run_dir={run_dir}", text)
        commands["distill predict, one text"] = command
    found = {}
    for name, command in commands.items():
        print(f"timing {name}", file=sys.stderr, flush=True)
        found[name] = [timed(command) for _ in range(rounds)]
    return found
