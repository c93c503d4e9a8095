"""Makes the virtual environment and installs distill into it, saying what it does.

  python requirements/install.py .venv

pip alone is silent for most of a minute. It runs here as it would without this script; every few
seconds a line says what it is at. Only the standard library is there to be used.
"""

from __future__ import annotations

import collections
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
PERIOD = 4.0  # seconds between two lines
_TOLD = ("Collecting ", "Downloading ", "Preparing ", "Building ")  # what is shown of pip's lines
_BEGAN = time.monotonic()


def run(command: Sequence[str], describe: Callable[[list[str]], str]) -> None:
    """Runs a command; a line now and then says how far it is.

    Args:
      command: the program and its arguments.
      describe: the lines it has printed -> what it is at.

    Raises:
      SystemExit: it failed; the end of its output has been shown.
    """
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()
        while True:
            try:
                process.wait(PERIOD - (time.monotonic() - _BEGAN) % PERIOD)
                break
            except subprocess.TimeoutExpired:
                print(f"  {time.monotonic() - _BEGAN:.0f} s: {describe(lines[:])}", flush=True)
        reader.join(timeout=5)
    if process.returncode:
        print("".join(collections.deque(lines, maxlen=40)), file=sys.stderr)
        raise SystemExit(process.returncode)


def describe_packages(lines: Sequence[str], total: int) -> str:
    """How far `pip install` is, from what it has printed.

    Args:
      lines: of its output.
      total: packages that it looks for.
    """
    if any(line.startswith("Installing collected") for line in lines):
        return "unpacking the packages into the environment"
    found = sum(line.startswith(("Collecting ", "Requirement already")) for line in lines)
    told = [line for line in lines if line.strip().startswith(_TOLD)]
    last = told[-1].strip().split(" (from ")[0] if told else "starting pip"
    return f"package {found} of {total}: {last[:70]}"


def main(environment: str) -> None:
    """Installs everything.

    Args:
      environment: folder of the virtual environment, which is made if it is not there.
    """
    folder = pathlib.Path(environment).resolve()
    python = folder / "bin" / "python"
    lock = ROOT / "requirements" / "lock.txt"
    total = sum(line[:1].isalnum() for line in lock.read_text().splitlines())
    print(
        f"Installing distill and {total} packages (requirements/lock.txt) into {environment}, "
        "once: about a minute and the downloads",
        flush=True,
    )
    if not python.exists():
        run([sys.executable, "-m", "venv", str(folder)], lambda lines: "making the environment")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--progress-bar=off"]
    run([*pip, "-r", str(lock)], lambda lines: describe_packages(lines, total))
    run([*pip, "--no-deps", "--editable", "."], lambda lines: "installing distill itself")
    print(f"Installed in {time.monotonic() - _BEGAN:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
