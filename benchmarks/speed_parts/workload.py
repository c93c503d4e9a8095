"""What all engines of benchmarks/speed.py are measured on, and how much work it is.

A folder holds it: settings.json (experiment, macros, sizes), batches.npz (padded arrays by step,
task and side) and inputs.npz (tokens of the rows to answer). torch_worker.py and
ctranslate2_worker.py read these files alone; native_worker.py and t5x_worker.py resolve the
experiment again.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks import gpu_workload
from distill.config import resolve
from distill.config.run import RunConfig
from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.data.cache import TokenCache
from distill.data.ragged import Ragged
from distill.preflight.count import Shapes, useful_flops

MAX_NEW_TOKENS = 8
SETTINGS, BATCHES, INPUTS = "settings.json", "batches.npz", "inputs.npz"


def read_settings(folder: pathlib.Path) -> dict:
    """settings.json."""
    return json.loads((folder / SETTINGS).read_text())


def resolve_run(settings: dict, engine: str = "native") -> RunConfig:
    """The run that settings.json describes."""
    return resolve.resolve([settings["experiment"]], settings["macros"], engine).run


def load_cache(run: RunConfig, scale: float | None) -> TokenCache:
    """The rows of a run; with a scale, random ones of CommonsenseQA's lengths times the scale."""
    if scale is None:
        return caches.load_cache(run.data)
    return gpu_workload.synthetic_rows(64 * run.train.batch_size, scale=scale)


def write(
    folder: pathlib.Path,
    experiment: str,
    macros: Sequence[str],
    steps: int,
    rows: int,
    scale: float | None = None,
) -> dict:
    """Writes the folder's files.

    Args:
      folder: where.
      experiment: a gin file of the native engine.
      macros: its settings, NAME=value.
      steps: batches to train on, the first of the run's order.
      rows: test rows to answer, 0 for none.
      scale: see `load_cache`.

    Returns:
      settings.json.

    Raises:
      SystemExit: an optimizer that is not that of the PyTorch process.
    """
    run = resolve.resolve([experiment], macros).run
    if run.optimizer.name != "adamw":
        raise SystemExit(
            f"got OPTIMIZER = {run.optimizer.name!r}, expected 'adamw', which all engines use"
        )
    cache = load_cache(run, scale)
    stream = BatchStream(cache, run.data, run.weighting, run.train.batch_size, run.train.seed)
    drawn = [stream.sequences(step) for step in range(steps)]
    np.savez(folder / BATCHES, **_padded(cache, run, drawn, ""), **_by_length(cache, run, drawn))
    inputs = cache.tokens["test", "label", "inputs"] if rows else []
    first = Ragged.of([inputs[row] for row in range(min(rows, len(inputs)))])
    np.savez(folder / INPUTS, values=first.values, offsets=first.offsets)
    settings = {
        "experiment": experiment,
        "macros": [*macros],
        "scale": scale,
        "student": dataclasses.asdict(run.student),
        "optimizer": dataclasses.asdict(run.optimizer),
        "task_weights": run.task_weights,
        "tasks": [*run.data.tasks],
        "batch_size": run.train.batch_size,
        "steps": steps,
        "rows": len(first),
        "max_new_tokens": MAX_NEW_TOKENS,
        "work": work(cache, run, drawn),
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1))
    return read_settings(folder)


def work(cache: TokenCache, run: RunConfig, steps: Sequence[Sequence[tuple[int, int]]]) -> dict:
    """Means over steps of what a step must compute: tokens and products without any padding.

    Args:
      cache: the rows.
      run: the run.
      steps: (task, row) of the sequences of each step.
    """
    shapes = [
        Shapes(1, *(len(cache.tokens["train", run.data.tasks[task], side][row]) for side in _SIDES))
        for step in steps
        for task, row in step
    ]
    return {
        "encoder_tokens": sum(shape.inputs for shape in shapes) / len(steps),
        "decoder_tokens": sum(shape.targets for shape in shapes) / len(steps),
        "useful_flops": sum(useful_flops(run.student, shape) for shape in shapes) / len(steps),
    }


_SIDES = ("inputs", "targets")


def _padded(
    cache: TokenCache, run: RunConfig, steps: Sequence[Sequence[tuple[int, int]]], order: str
) -> dict[str, np.ndarray]:
    """Each step's sequences as padded arrays, named `<order><step>.<task>.<side>`."""
    arrays = {}
    for step, sequences in enumerate(steps):
        for number, task in enumerate(run.data.tasks):
            rows = [row for one, row in sequences if one == number]
            for side in _SIDES:
                found = [cache.tokens["train", task, side][row] for row in rows]
                padded_BxL = np.zeros((len(found), max(map(len, found))), np.int64)
                for row_L, tokens in zip(padded_BxL, found, strict=True):
                    row_L[: len(tokens)] = tokens
                arrays[f"{order}{step}.{number}.{side}"] = padded_BxL
    return arrays


def _by_length(
    cache: TokenCache, run: RunConfig, steps: Sequence[Sequence[tuple[int, int]]]
) -> dict[str, np.ndarray]:
    """The rows of all steps in batches of about one length, named as of `_padded`."""
    rows = [row for step in steps for task, row in step if task == 0]
    both = {row for step in steps for task, row in step if task == 1}
    lengths = cache.tokens["train", run.data.tasks[0], "inputs"].lengths
    rows.sort(key=lambda row: -lengths[row])
    size = -(-len(rows) // len(steps))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    sequences = [
        [(0, row) for row in part] + [(1, row) for row in part if row in both] for part in parts
    ]
    return _padded(cache, run, sequences, "sorted.")
