"""Installs the packages of requirements/lock.txt and distill itself, saying what it does.

  .venv/bin/python requirements/install.py

pip alone is silent for most of a minute. It runs here as it would without this script; every few
seconds a line says what it is at. Only the standard library is there to be used.
"""

from __future__ import annotations

import collections
import pathlib
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PERIOD = 4.0  # seconds between two lines


def run_pip(arguments: list[str], total: int, began: float) -> None:
    """Runs `pip install`, and shows how far it is.

    Args:
      arguments: of `pip install`.
      total: packages that it looks for.
      began: time.monotonic() at the start.

    Raises:
      SystemExit: pip failed; the end of its output has been shown.
    """
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--progress-bar=off", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        lines: collections.deque[str] = collections.deque(maxlen=40)
        found: set[str] = set()
        reader = threading.Thread(target=_read, args=(pip.stdout, lines, found), daemon=True)
        reader.start()
        while True:
            try:
                pip.wait(PERIOD)
                break
            except subprocess.TimeoutExpired:
                seconds, last = time.monotonic() - began, lines[-1] if lines else "starting pip"
                stage = f"{len(found)}/{total} packages found; {last.strip()[:60]}"
                if last.startswith("Installing"):
                    stage = "unpacking them into the environment"
                print(f"  {seconds:.0f} s: {stage}", flush=True)
        reader.join(timeout=5)
    if pip.returncode:
        print("\n".join(lines), file=sys.stderr)
        raise SystemExit(pip.returncode)


def _read(stream: object, lines: collections.deque[str], found: set[str]) -> None:
    for line in stream:
        lines.append(line.rstrip())
        if line.startswith(("Collecting ", "Requirement already satisfied: ")):
            found.add(line.split(": " if ": " in line else " ", 1)[1].split(" ")[0])


def main() -> None:
    """Installs the packages, then distill."""
    began = time.monotonic()
    lock = ROOT / "requirements" / "lock.txt"
    total = sum(line[:1].isalnum() for line in lock.read_text().splitlines())
    print(
        f"Installing {total} packages at the versions of requirements/lock.txt into {sys.prefix}:\n"
        "  about a minute and the downloads, once",
        flush=True,
    )
    run_pip(["-r", str(lock)], total, began)
    run_pip(["--no-deps", "--editable", "."], 1, began)
    print(f"Installed in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
