"""Processes that measure on request: one line of JSON in, one line of JSON out.

Each engine of benchmarks/speed.py has a process of its own, which stays: so rounds can alternate
between engines that cannot share a process, and each has its own memory. Imports nothing but the
standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STARTED = time.perf_counter()

Fields = dict[str, object]


def serve(hello: Fields, actions: Mapping[str, Callable[..., Fields | None]]) -> None:
    """Answers requests until standard input ends.

    Whatever is printed meanwhile goes to stderr. The reply has what the action returns, and
    `wall` and `cpu`, the seconds that it took by the clock and on all cores.

    Args:
      hello: the first line, sent once everything is ready.
      actions: functions by name; they take the other fields of the request.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(hello | _state()), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        action = actions[request.pop("do")]
        wall, cpu = time.perf_counter(), time.process_time()
        found = action(**request) or {}
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(times | found | _state()), file=replies, flush=True)


def _state() -> Fields:
    """What a reply says of the process."""
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


class Lap:
    """Seconds between points of a process's start."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = STARTED

    def done(self, name: str) -> None:
        """Ends the part `name`, which began where the last one ended."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


class Failed(Exception):
    """A process ended early; the message has the end of what it wrote to stderr."""


class Worker:
    """A process that serves requests."""

    def __init__(
        self,
        python: str,
        module: str,
        arguments: Sequence[str],
        log: Path,
        limit: float | None = None,
    ) -> None:
        """Starts the process and waits until it is ready.

        Args:
          python: the interpreter.
          module: its name, dotted.
          arguments: of its command.
          log: where its stderr goes.
          limit: seconds in which the process has to be ready; None for any time.

        Raises:
          Failed: it ended.
        """
        self._log, path = log, [str(ROOT), os.environ.get("PYTHONPATH", "")]
        own = {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "JAX_TRACEBACK_FILTERING": "off",  # else the last line of an error is a hint of jax
        }
        started = time.perf_counter()
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [python, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env=os.environ | own,
            )
        late = threading.Timer(limit, self._process.kill) if limit else None
        if late:
            late.start()
        try:
            self.hello: Fields = self._reply()
        except Failed as error:
            if late and time.perf_counter() - started >= limit:
                raise Failed(f"not ready within {limit:.0f} s") from error
            raise
        finally:
            if late:
                late.cancel()
        self.hello["start"] = time.perf_counter() - started

    def call(self, action: str, **fields: object) -> Fields:
        """Sends a request; returns its reply.

        Raises:
          Failed: the process ended.
        """
        with contextlib.suppress(BrokenPipeError):  # the reply says why
            print(json.dumps({"do": action, **fields}), file=self._process.stdin, flush=True)
        return self._reply()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _reply(self) -> Fields:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        last = [text for text in self._log.read_text().splitlines() if text.strip()][-1:]
        message = f"exit code {code}: {''.join(last)}"
        print(f"{self._log.stem} ended: {message}", file=sys.stderr, flush=True)
        raise Failed(message)
