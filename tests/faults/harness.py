"""Builds the shim, and asks the driver for runs under faults."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence

import pytest

HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENT = "tickets_step_by_step"
KINDS = ("open", "write", "fsync", "rename", "mkdir")
TIMEOUT_SECONDS = 180  # a run takes one second on a machine that does nothing else,
FIRST_SECONDS = 600  # the first of a process compiles


def build_shim(folder: pathlib.Path) -> pathlib.Path:
    """Compiles shim.c; skips the test where that is not possible."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("the shim needs Linux and gcc")
    library = folder / "shim.so"
    source = HERE / "shim.c"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source]
    subprocess.run([*command, "-ldl", "-pthread"], check=True)
    return library


@dataclasses.dataclass(frozen=True)
class Fault:
    """One call that fails.

    Attributes:
      where: "run" or "cache", the folder.
      kind: of KINDS.
      number: which call of the kind, from 1.
      error: ENOSPC, EIO or SHORT.
      lasting: whether later calls of the kind fail too.
    """

    where: str
    kind: str
    number: int
    error: str
    lasting: bool

    @property
    def group(self) -> str:
        """What the table counts together."""
        return f"{self.where} {self.kind} {self.error}{' lasting' if self.lasting else ''}"


@dataclasses.dataclass(frozen=True)
class Call:
    """A line of the shim's log."""

    kind: str
    failed: bool
    bytes: int
    path: str


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
      code: its exit code; None for a crash or a hang.
      problem: what is wrong with how it ended, "" if nothing.
      output: stdout and stderr.
      calls: what the shim saw.
    """

    code: int | None
    problem: str
    output: str
    calls: list[Call]

    @property
    def message(self) -> str:
        """What the user is told."""
        return "\n".join(x for x in self.output.splitlines() if x.startswith("distill: "))


class Driver:
    """Runs commands in a process that is started again when it hangs."""

    def __init__(self, shim: pathlib.Path, folder: pathlib.Path, settings: Sequence[str]) -> None:
        """Prepares it; the process starts with the first run.

        Args:
          shim: of `build_shim`.
          folder: a scratch folder: `run` and `cache` in it are the run's.
          settings: macros of the run.
        """
        self._shim, self._settings = shim, settings
        self.folder = folder
        self.run_dir, self.cache_dir = folder / "run", folder / "cache"
        self._process: subprocess.Popen | None = None

    def arguments(self, run_dir: pathlib.Path, cache_dir: pathlib.Path) -> list[str]:
        """The command line of the run."""
        folders = (f"--run_dir={run_dir}", f"--cache_dir={cache_dir}")
        macros = (f"--gin.{text}" for text in self._settings)
        return ["train", f"--gin_file={EXPERIMENT}", *folders, *macros]

    @staticmethod
    def settings_of(
        fault: Fault | None, watched: pathlib.Path, log: pathlib.Path
    ) -> dict[str, str]:
        """The environment variables of shim.c."""
        settings = {"FAULTS_FOLDERS": str(watched), "FAULTS_LOG": str(log)}
        if fault:
            settings |= {
                "FAULTS_KIND": fault.kind,
                "FAULTS_NUMBER": str(fault.number),
                "FAULTS_ERROR": fault.error,
                "FAULTS_LASTING": str(int(fault.lasting)),
            }
        return settings

    def train(
        self,
        fault: Fault | None = None,
        log_calls: str = "",
        clean: Iterable[pathlib.Path] = (),
        run_dir: pathlib.Path | None = None,
        cache_dir: pathlib.Path | None = None,
    ) -> Ending:
        """Trains.

        Args:
          fault: what fails, if anything.
          log_calls: "run" or "cache" to see the calls without a fault.
          clean: folders that are removed first.
          run_dir: another run folder than the driver's.
          cache_dir: another cache than the driver's.
        """
        run_dir, cache_dir = run_dir or self.run_dir, cache_dir or self.cache_dir
        watched = {"run": run_dir, "cache": cache_dir}.get(fault.where if fault else log_calls)
        shim_log, output = self.folder / "calls.log", self.folder / "output.txt"
        shim_log.unlink(missing_ok=True)
        case = {
            "argv": self.arguments(run_dir, cache_dir),
            "log": str(output),
            "faults": self.settings_of(fault, watched, shim_log) if watched else {},
            "clean": [str(folder) for folder in clean],
        }
        answer = self._ask(case)
        text = output.read_text(errors="replace")
        calls = read_calls(shim_log) if shim_log.exists() else []
        if isinstance(answer, str):
            stacks = (self.folder / "driver.log").read_text(errors="replace")
            return Ending(None, answer, text + stacks, calls)
        problem = _problem(answer, text)
        return Ending(answer["code"], problem, text + (answer["crash"] or ""), calls)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, case: dict) -> dict | str:
        """The driver's answer, or why there is none."""
        seconds = TIMEOUT_SECONDS
        if self._process is None:
            seconds = FIRST_SECONDS
            self._start()
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self._process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
            self.close()
            return f"hangs for {seconds} s"
        if line:
            return json.loads(line)
        code = self._process.wait()
        self.close()
        return f"the process dies with {code}"

    def _start(self) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(self._shim)}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "driver.log").open("w"),
            text=True,
            env=environment,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen) -> None:
        answers = self._answers
        for line in process.stdout:
            answers.put(line)
        answers.put("")


def read_calls(path: pathlib.Path) -> list[Call]:
    """The calls that the shim has logged."""
    calls = []
    for line in path.read_text().splitlines():
        kind, failed, size, name = line.split("\t")
        calls.append(Call(kind, failed == "1", int(size), name))
    return calls


def _problem(answer: dict, output: str) -> str:
    """What is wrong with an ending: "" for 0, and for 2 with one message and no traceback."""
    found = []
    if answer["alive"]:
        found.append(f"threads do not end: {', '.join(answer['alive'])}")
    if answer["crash"]:
        found.append(f"crash: {answer['crash'].strip().splitlines()[-1]}")
    elif "Traceback (most recent call last)" in output:
        found.append(f"traceback: {_last_of_traceback(output)}")
    elif answer["code"] not in (0, 2):
        found.append(f"exit {answer['code']}")
    messages = [line for line in output.splitlines() if line.startswith("distill: ")]
    if not answer["crash"] and len(messages) != (answer["code"] == 2):
        found.append(f"exit {answer['code']} with {len(messages)} messages")
    return "; ".join(found)


def _last_of_traceback(output: str) -> str:
    after = output.rpartition("Traceback (most recent call last)")[2]
    lines = [x for x in after.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", x)]
    return lines[0] if lines else "unknown"
