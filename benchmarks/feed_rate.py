"""Pairs per second that one host's input pipeline delivers, beside what a slice consumes.

    python benchmarks/feed_rate.py --batch_sizes 32 256 2048

The tokens are random, in a cache on disk, as `distill train` reads them. Each host prepares the
whole batch of a step, whatever the number of hosts, so one host has to keep up with all chips.
`consumed` is an upper bound: a chip at its peak rate of operations. Its default is that of xxl on
v5p: 459 TFLOP/s, and 88.2 TFLOP per pair of 1,024 + 256 tokens and two tasks (44.1 TFLOP per chip
and step for 32 pairs on 64 chips, docs/preflight.md).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np
from etils import epath

from distill.config.data import DataSpec
from distill.config.weighting import Weighting
from distill.data.batching.batches import BatchStream
from distill.data.cache import TokenCache
from distill.data.ragged import FEATURES, Ragged, offsets_path
from distill.data.row_file import open_array

TASKS = ("label", "rationale")
CHIPS = (4, 64, 256, 1024)


def make_tokens(folder: pathlib.Path, rows: int, limits: dict[str, int], fill: float) -> None:
    """Writes random tokens; sequences have `fill` to 1 times the tokens of their limit."""
    generator = np.random.default_rng(0)
    for task in TASKS:
        for side in FEATURES:
            longest = limits[side]
            lengths = generator.integers(max(1, int(fill * longest)), longest + 1, rows)
            path = epath.Path(folder / f"train.{task}.{side}")
            path.write_bytes(generator.integers(2, 32_000, lengths.sum(), "<i4").tobytes())
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
            offsets_path(path).write_bytes(offsets.tobytes())


def open_tokens(folder: pathlib.Path) -> TokenCache:
    """The tokens as a cache: mapped into memory."""
    tokens, tasks = {}, {}
    for task in TASKS:
        for side in FEATURES:
            path = epath.Path(folder / f"train.{task}.{side}")
            arrays = open_array(path, "<i4"), open_array(offsets_path(path), "<i8")
            tokens["train", task, side] = Ragged(*arrays)
        mean = float(tokens["train", task, "targets"].lengths.mean())
        tasks[task] = {"mean_target_tokens": mean}
    return TokenCache(epath.Path(folder), {"tasks": tasks}, tokens, {"train": ()})


def measure(cache: TokenCache, spec: DataSpec, batch_size: int, seconds: float) -> dict:
    """Pairs per second of wall-clock and of processor time."""
    weighting = Weighting(0.5, 0.5, "per_sequence", "paired_batches")
    stream = BatchStream(cache, spec, weighting, batch_size, seed=0)
    stream.batch(0)  # probes the lengths
    steps, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds or not steps:
        steps += 1
        stream.batch(steps)
    pairs = steps * batch_size
    return {
        "batch_size": batch_size,
        "pairs_per_s": round(pairs / (time.perf_counter() - began), 1),
        "pairs_per_cpu_s": round(pairs / (time.process_time() - used), 1),
    }


def main() -> None:
    """Prints a line of JSON for each batch size, and one for what is consumed."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[32, 256, 2048])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--input_length", type=int, default=1024)
    parser.add_argument("--target_length", type=int, default=256)
    parser.add_argument("--fill", type=float, default=1.0, help="shortest length, of the longest")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tflop_per_pair", type=float, default=88.2)
    parser.add_argument("--tflops_per_chip", type=float, default=459)
    options = parser.parse_args()
    limits = {"inputs": options.input_length, "targets": options.target_length}
    spec = DataSpec(
        "jsonl",
        "step_by_step",
        vocabulary="bytes",
        input_length=options.input_length,
        target_length=options.target_length,
    )
    per_chip = options.tflops_per_chip / options.tflop_per_pair
    consumed = {f"{chips} chips": round(chips * per_chip, 1) for chips in CHIPS}
    print(json.dumps({"consumed": consumed}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_tokens(pathlib.Path(folder), options.rows, limits, options.fill)
        cache = open_tokens(pathlib.Path(folder))
        for batch_size in options.batch_sizes:
            print(json.dumps(measure(cache, spec, batch_size, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
