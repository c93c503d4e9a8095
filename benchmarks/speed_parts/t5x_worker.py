"""The stock T5X process of benchmarks/speed.py.

    python3 -m benchmarks.speed_parts.t5x_worker FOLDER train SETTING

Trains on the pairs of native's steps. The settings:

  packed   rows of INPUT_LENGTH and TARGET_LENGTH, which hold several sequences each
  scanned  packed, with T5X's scalable_t5, which scans its layers
  padded   a sequence a row, padded to the longest of all steps

T5X's input pipeline is not part of the time.
"""

from __future__ import annotations

import pathlib
import sys

from benchmarks.speed_parts import protocol

LAP = protocol.Lap()

import jax  # noqa: E402  the time of the imports is measured
import numpy as np  # noqa: E402

from benchmarks.speed_parts import t5x_step, workload  # noqa: E402
from distill.data.batching import packing  # noqa: E402
from distill.data.batching.batches import BatchStream  # noqa: E402
from distill.data.cache import TokenCache  # noqa: E402
from distill.inference.compilations import share_compilations  # noqa: E402

SETTINGS = ("packed", "scanned", "padded")


def train(folder: pathlib.Path, setting: str) -> None:
    """Serves training steps."""
    LAP.done("imports")
    settings = workload.read_settings(folder)
    run, steps = workload.resolve_run(settings), settings["steps"]
    share_compilations()
    cache = workload.load_cache(run, settings["scale"])
    size, seed = run.train.batch_size, run.train.seed
    stream = BatchStream(cache, run.data, run.weighting, size, seed)
    if setting == "padded":
        batches = [
            t5x_step.features(one, packed=False) for one in _padded(stream, cache, run, steps)
        ]
    else:
        batches = [t5x_step.features(stream.batch(number)) for number in range(steps)]
    shapes = {str(jax.tree.map(np.shape, batch)) for batch in batches}
    if len(shapes) > 1:
        raise SystemExit(f"batches of {len(shapes)} shapes, expected one")
    batches = [jax.device_put(batch) for batch in batches]
    LAP.done("data")
    step = t5x_step.StockStep(run, batches[0], float(size), setting == "scanned")
    LAP.done("compile")
    step.init()
    LAP.done("init")

    def take(first: int, count: int) -> protocol.Fields:
        for number in range(first, first + count):
            metrics = step(batches[number % steps])
        jax.block_until_ready(metrics)
        return {}

    take(0, 1)
    LAP.done("first step")
    memory = step.compiled.memory_analysis()
    facts = {
        "seconds": LAP.seconds,
        "temporary_bytes": memory.temp_size_in_bytes,
        "encoder_positions": float(batches[0]["encoder_input_tokens"].size),
        "decoder_positions": float(batches[0]["decoder_target_tokens"].size),
    }
    protocol.serve(facts, {"train": take})


def _padded(
    stream: BatchStream, cache: TokenCache, run: object, steps: int
) -> list[dict[str, np.ndarray]]:
    """Batches with a sequence a row."""
    of_steps = []
    for number in range(steps):
        sequences = []
        for task, row in stream.sequences(number):
            inputs, targets = (
                cache.tokens["train", run.data.tasks[task], side][row]
                for side in ("inputs", "targets")
            )
            sequences.append(packing.TrainSequence(inputs, targets, task, 1 / len(targets)))
        of_steps.append(sequences)
    every = [one for sequences in of_steps for one in sequences]
    lengths = max(len(one.inputs) for one in every), max(len(one.targets) for one in every)
    rows = max(map(len, of_steps))
    return [
        packing.pack(sequences, [[index] for index in range(len(sequences))], rows, *lengths)
        for sequences in of_steps
    ]


if __name__ == "__main__":
    train(pathlib.Path(sys.argv[1]), sys.argv[3])
