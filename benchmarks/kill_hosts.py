"""Ends a run on two hosts at random moments, and compares what it becomes.

    python benchmarks/kill_hosts.py --moments 20

Each attempt is `distill train` in two processes with two CPU devices each. At a moment drawn
between their first steps and the end of the run, one of them (or both, as when a slice is taken)
gets SIGTERM or SIGKILL; every other attempt ends while a checkpoint is written. The seconds until
both have ended are measured, and their exit codes shown. Both are then started again and left
alone. Compared with a run that nobody disturbed, bit by bit: what `kill_resume.py` compares.
Exits with 1 if anything differs, if a process does not end within 30 seconds, or if the exit code
of one that was not killed is neither 143 nor 75.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kill_resume

LIMIT = 30.0  # seconds in which the processes have to end


class Hosts:
    """The processes of a run, again and again, in one run folder."""

    def __init__(
        self,
        folder: pathlib.Path,
        settings: tuple[str, ...],
        compiled: pathlib.Path | None = None,
        count: int = 2,
        devices: int = 2,
    ) -> None:
        """Names the folders.

        Args:
          folder: takes the run, its logs and its cache.
          settings: macros of the run.
          compiled: compiled programs, copied into the cache.
          count: the number of processes.
          devices: of each.
        """
        self.dir, self.cache = folder / "run", folder / "cache"
        self.cache.mkdir(parents=True)
        if compiled is not None and compiled.exists():
            shutil.copytree(compiled, self.cache / "xla")
        self.count, self.devices, self.settings = count, devices, settings
        self._logs = [folder / f"{index}.log" for index in range(8)]
        self.processes: list[subprocess.Popen] = []

    def start(self, *flags: str) -> None:
        """Starts the processes."""
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        environment = os.environ | {
            "DISTILL_CACHE_DIR": str(self.cache),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={self.devices}",
        }
        self.processes = []
        for index in range(self.count):
            command = [sys.executable, "-m", "distill.cli", "train"]
            command += ["--gin_file=tickets_step_by_step", f"--run_dir={self.dir}", *flags]
            command += [f"--gin.{setting}" for setting in self.settings]
            if self.count > 1:
                command += [f"--coordinator_address=127.0.0.1:{port}", f"--process_id={index}"]
                command += [f"--num_processes={self.count}"]
            with self._logs[index].open("w") as log:
                self.processes.append(
                    subprocess.Popen(command, stdout=log, stderr=log, env=environment)
                )

    def wait_until(self, text: str = "", writes_from: int | None = None) -> None:
        """Returns when the first process has said `text`, writes a checkpoint, or has ended.

        Args:
          text: a regular expression.
          writes_from: step from which on a checkpoint that is being written counts.
        """
        while self.processes[0].poll() is None:
            if text and re.search(text, self.said(0)):
                return
            names = [path.name for path in self.dir.glob("checkpoints/*.orbax-checkpoint-tmp*")]
            if writes_from is not None and any(
                int(name.partition(".")[0]) >= writes_from for name in names
            ):
                return
            time.sleep(0.002)

    def said(self, index: int) -> str:
        """What a process has printed since its start."""
        return self._logs[index].read_text()

    def end(self, limit: float) -> list[int | None]:
        """Waits for all; their exit codes, None for one that had to be killed."""
        deadline = time.monotonic() + limit
        codes: list[int | None] = []
        for process in self.processes:
            try:
                codes.append(process.wait(timeout=max(deadline - time.monotonic(), 0.01)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes.append(None)
        return codes

    def finish(self) -> str:
        """Runs to the end; what the first process has printed."""
        self.start()
        codes = self.end(600)
        if any(codes):
            sys.exit(f"exit codes {codes}\n" + "\n".join(map(self.said, range(self.count))))
        return self.said(0)


def disturb(run: Hosts, number: int, chosen: list[int]) -> tuple[list[int | None], float, bool]:
    """Sends a signal to some processes.

    Args:
      run: its processes have been started.
      number: the signal.
      chosen: processes that get it.

    Returns:
      The exit codes, the seconds until all had ended, and whether that is how they should end.
    """
    was_running = [process.poll() is None for process in run.processes]
    began = time.monotonic()
    for index in chosen:
        run.processes[index].send_signal(number)
    codes = run.end(LIMIT)
    seconds = time.monotonic() - began
    # Of processes that were at their very end, some end well.
    expected = {0, 75, 143}
    if number == signal.SIGKILL and 0 in chosen:
        expected.add(-signal.SIGABRT)  # by jax, once process 0 is gone
    is_right = all(
        code in expected or (code == -number and (index in chosen or not was_running[index]))
        for index, code in enumerate(codes)
    )
    return codes, seconds, is_right


def main() -> None:
    """Prints a line for each moment, and the number of runs that differ."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="best", choices=("last", "best"))
    options = parser.parse_args()
    generator = random.Random(options.seed)
    settings = (*kill_resume.SETTINGS, f"CHECKPOINT={options.checkpoint}")
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        first = Hosts(root / "first", settings)
        first.finish()  # compiles
        undisturbed = Hosts(root / "undisturbed", settings, first.cache / "xla")
        undisturbed.start()
        undisturbed.wait_until(r"\ntraining: ")
        began = time.monotonic()
        if any(undisturbed.end(600)):
            sys.exit(undisturbed.said(0))
        length = time.monotonic() - began
        wanted = kill_resume.content(undisturbed.dir)
        print(f"undisturbed: {length:.1f} s from the first steps; {len(wanted)} items compared")
        print("signal  | to     | when           | exit codes   | ended in | went on    | differs")
        wrong, longest = 0, 0.0
        for attempt in range(options.moments):
            run = Hosts(root / str(attempt), settings, first.cache / "xla")
            number = generator.choice((signal.SIGTERM, signal.SIGKILL))
            chosen = generator.choice(([0], [1], [0, 1]))
            run.start()
            if attempt % 2:
                step = generator.choice(range(4, 48, 4))
                run.wait_until(writes_from=step)
                when = f"writes {step}"
            else:
                moment = generator.uniform(0, length)
                run.wait_until(r"\ntraining: ")
                time.sleep(moment)
                when = f"{moment:.2f} s"
            codes, seconds, is_right = disturb(run, number, chosen)
            log = run.finish()
            resumed = re.search(r"resumed at step \d+|is finished", log)
            differing = kill_resume.differences(run.dir, wanted)
            wrong += bool(differing) or not is_right
            longest = max(longest, seconds)
            how = resumed.group().removeprefix("resumed at ") if resumed else "from step 0"
            print(
                f"{number.name} | {chosen!s:6} | {when:14} | {codes!s:12} | {seconds:6.1f} s | "
                f"{how:11} | {', '.join(differing[:3]) or 'nothing'}"
                + ("" if is_right else " (wrong exit codes)"),
                flush=True,
            )
            shutil.rmtree(root / str(attempt))
        print(f"{wrong} of {options.moments} differ; the longest end took {longest:.1f} s")
        sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
