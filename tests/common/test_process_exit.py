"""The end of a process: all but the destruction of what is left."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import atexit, sys, threading, time
from distill.common.process_exit import run_and_exit

class Slow:
    def __del__(self):
        print("destroyed", flush=True)

def main():
    global kept
    kept = Slow()
    kept.itself = kept
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    atexit.register(lambda: print("handler"))
    print("result")
    {end}

run_and_exit(main)
"""


def _run(end):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(end=end)], capture_output=True, text=True
    )
    return done.returncode, done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("end", "code"), [("return 0", 0), ("return 143", 143), ("sys.exit(2)", 2), ("sys.exit()", 0)]
)
def test_threads_and_handlers_end_and_nothing_is_destroyed(end, code):
    assert _run(end) == (code, ["result", "thread", "handler"], "")


def test_an_error_is_shown_as_ever():
    code, shown, errors = _run("raise RuntimeError('why')")
    assert code == 1 and shown[:3] == ["result", "thread", "handler"]
    assert errors.endswith("RuntimeError: why\n")


def test_an_interrupt_while_the_command_is_loaded_gives_one_line():
    code = """
import sys
sys.argv = ["distill", "--help"]

class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == "distill.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from distill.__main__ import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "distill: interrupted\n")
