"""Kills a training run at random moments and compares what it ends as.

    python benchmarks/kill_resume.py --moments 20
    python benchmarks/kill_resume.py --moments 0 --rounds 20

Each attempt is `distill train` in a process of its own and with a token cache of its own. It
is killed (SIGKILL) at a moment drawn between the begin of that cache and the end of the run
(every other one: between the first steps and the end), then started again and left alone.
With `--rounds` it is killed ten times in one run folder: after steps, while it evaluates, while it
writes a checkpoint, and at its end (KILLS).
Compared with a run that nobody disturbed, bit by bit: every checkpoint (parameters, optimizer,
step, seeds, accuracy), with `--checkpoint best` the best one too, metrics.jsonl and the test
predictions; and results.json but for its seconds.
Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SETTINGS = (
    "EMBED_DIM=16",
    "MLP_DIM=16",
    "NUM_HEADS=2",
    "HEAD_DIM=8",
    "NUM_ENCODER_LAYERS=1",
    "NUM_DECODER_LAYERS=1",
    "NUM_ROWS=200",
    "NUM_TEST=200",
    "NUM_LABELS=160",
    "BATCH_SIZE=8",
    "TRAIN_STEPS=48",
    "WARMUP_STEPS=4",
    "LOG_PERIOD=2",
    "SAVE_PERIOD=4",
    "EVAL_PERIOD=8",
    "EVAL_BATCH_SIZE=16",
)

# The kills of a round: when, and from which step on. Each process gets a little further.
KILLS = (
    ("step", 2),
    ("write", 8),
    ("evaluation", 16),
    ("step", 18),
    ("write", 24),
    ("evaluation", 32),
    ("step", 34),
    ("write", 40),
    ("evaluation", 48),
    ("end", 48),
)


class Run:
    """One `distill train` process after the other in one run folder."""

    def __init__(self, folder: pathlib.Path, compiled: pathlib.Path, checkpoint: str) -> None:
        """Names the folders.

        Args:
          folder: takes the run, its log and its cache.
          compiled: compiled programs, copied into the cache so that no time goes there.
          checkpoint: value of CHECKPOINT.
        """
        self.dir, self._log, self._cache = folder / "run", folder / "log", folder / "cache"
        self._cache.mkdir(parents=True)
        if compiled.exists():
            shutil.copytree(compiled, self._cache / "xla")
        self._command = [
            sys.executable,
            "-m",
            "distill.cli",
            "train",
            "--gin_file=tickets_step_by_step",
            f"--run_dir={self.dir}",
            f"--gin.CHECKPOINT={checkpoint}",
            *(f"--gin.{setting}" for setting in SETTINGS),
        ]

    def start(self, since: str) -> subprocess.Popen:
        """Starts a process; returns when it begins its cache, or with since='steps' its steps."""
        environment = os.environ | {"DISTILL_CACHE_DIR": str(self._cache)}
        with self._log.open("w") as log:
            process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=log, env=environment
            )
        while process.poll() is None and not self._begun(since):
            time.sleep(0.002)
        return process

    def _begun(self, since: str) -> bool:
        if since == "steps":
            return "\ntraining: " in self._log.read_text()
        return any(path.name != "xla" for path in self._cache.iterdir())

    def kill_at(self, when: str, step: int, delay: float) -> str:
        """Starts a process and kills it; says where it was, or that it ended before.

        Args:
          when: of KILLS.
          step: of KILLS.
          delay: seconds from then on.
        """
        process = self.start("cache")
        while process.poll() is None and not self._is_at(when, step):
            time.sleep(0.001)
        time.sleep(delay)
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        return f"{when} {step}" + ("; it had ended" if ended else "")

    def _is_at(self, when: str, step: int) -> bool:
        if when == "write":
            names = (path.name for path in self.dir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
            return any(int(name.partition(".")[0]) >= step for name in names)
        log = self._log.read_text()
        if when == "end":
            return f"\nstep {step}: validation" in log
        shown = [int(text) for text in re.findall(r"\ntraining: (\d+)/", log)]
        return max(shown, default=0) >= step

    def finish(self) -> tuple[dict[str, float], str]:
        """Runs to the end; returns the seconds since each of its begins, and what it printed."""
        began = {}
        process = self.start("cache")
        began["cache"] = time.monotonic()
        while process.poll() is None and not self._begun("steps"):
            time.sleep(0.002)
        began["steps"] = time.monotonic()
        if process.wait():
            sys.exit(self._log.read_text())
        return {k: time.monotonic() - v for k, v in began.items()}, self._log.read_text()

    def state(self) -> str:
        """What of a killed run is on the disk."""
        if (self.dir / "results.json").exists():
            return "results"
        partial = list(self.dir.glob("checkpoints/*orbax-checkpoint-tmp*"))
        steps = [int(path.name) for path in self.dir.glob("checkpoints/*") if path.name.isdigit()]
        if not self.dir.exists():
            caches = [path.name for path in self._cache.iterdir() if path.name != "xla"]
            return "cache half made" if any("tmp" in name for name in caches) else "cache made"
        return f"checkpoint {max(steps, default='none')}" + ("; one half written" * bool(partial))


def content(folder: pathlib.Path) -> dict[str, object]:
    """Everything of a run that must be the same, by name; arrays as their bytes."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    results = json.loads((folder / "results.json").read_text())
    del results["seconds"]
    found: dict[str, object] = {"results.json": results}
    for name in ("metrics.jsonl", "predictions_test.jsonl", "config.gin"):
        found[name] = (folder / name).read_bytes()
    for path in sorted((folder / "checkpoints").iterdir()):
        metrics = path / "metrics" / "metrics"
        found[f"{path.name}/metrics"] = metrics.exists() and metrics.read_bytes()
        with ocp.PyTreeCheckpointer() as reader:
            leaves = reader.metadata(path / "default").item_metadata.tree
            # Whole arrays, on however many devices they were
            kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), leaves)
            tree = reader.restore(path / "default", restore_args=kinds)
        for key, array in jax.tree_util.tree_flatten_with_path(tree)[0]:
            name = f"{path.name}{jax.tree_util.keystr(key)}"
            found[name] = (str(array.dtype), array.shape, array.tobytes())
    return found


def differences(folder: pathlib.Path, wanted: dict[str, object]) -> list[str]:
    """Names of what differs from the undisturbed run."""
    found = content(folder)
    return sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))


def main() -> None:
    """Prints a line for each moment and the number of differing runs."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=0, help="of ten kills in one folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="best", choices=("last", "best"))
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        none = root / "none"
        Run(root / "first", none, options.checkpoint).finish()  # compiles
        compiled = root / "first" / "cache" / "xla"
        undisturbed = Run(root / "undisturbed", compiled, options.checkpoint)
        seconds, _ = undisturbed.finish()
        wanted = content(undisturbed.dir)
        arrays = sum(isinstance(value, tuple) for value in wanted.values())
        print(
            f"undisturbed: {seconds['cache']:.1f} s from the cache's begin, {seconds['steps']:.1f} "
            f"from the first steps; {arrays} arrays compared"
        )
        print("since, s    | on the disk when killed                | went on      | differs in")
        wrong = 0
        for number in range(options.moments):
            since = ("cache", "steps")[number % 2]
            moment = generator.uniform(0, seconds[since])
            run = Run(root / str(number), compiled, options.checkpoint)
            process = run.start(since)
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            state = run.state()
            _, log = run.finish()
            resumed = re.search(r"resumed at step \d+|is finished", log)
            differing = differences(run.dir, wanted)
            wrong += bool(differing)
            how = resumed.group() if resumed else "from step 0"
            shown = ", ".join(differing[:3]) or "nothing"
            print(f"{since} {moment:5.2f} | {state:38} | {how:12} | {shown}", flush=True)
            shutil.rmtree(root / str(number))
        for number in range(options.rounds):
            run = Run(root / f"round{number}", compiled, options.checkpoint)
            kills = [run.kill_at(*kill, generator.uniform(0, 0.05)) for kill in KILLS]
            _, log = run.finish()
            differing = differences(run.dir, wanted)
            wrong += bool(differing)
            last = re.search(r"resumed at step \d+|is finished", log)
            shown = ", ".join(differing[:3]) or "nothing"
            print(
                f"round {number}: killed at {', '.join(kills)}; last {last and last.group()}; "
                f"differs in {shown}",
                flush=True,
            )
            shutil.rmtree(root / f"round{number}")
        print(f"{wrong} of {options.moments + options.rounds} differ")
        sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
