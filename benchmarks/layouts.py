"""Training steps with packed and with flat batches, and of PyTorch, by turns in one run.

    PYTHONPATH=. python3 benchmarks/layouts.py --rounds 10
    PYTHONPATH=. python3 benchmarks/layouts.py --raw_dir DATA --vocabulary_path MODEL \
        --torch PYTHON --out layouts.json BATCH_SIZE=64

The student of gin/sizes/mini.gin with tied embeddings in float32, dropout 0.1 and AdamW, 32 pairs
a step. Rows are CommonsenseQA's with PaLM's rationales, or with no --raw_dir random tokens of such
lengths (gpu_workload.py). A round times some steps of each engine; what is shown are medians over
rounds, of seconds and of CPU seconds of the process, which other processes disturb less, and of
each round's ratio to the packed layout. --torch names a Python that has torch and transformers: it
trains on the same pairs in two padded passes (layouts_torch.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from benchmarks import gpu_workload as workload
from distill.common import table
from distill.config import resolve
from distill.config.run import RunConfig
from distill.data import cache as caches
from distill.data.batching.batches import FLAT, PACKED, BatchStream
from distill.data.cache import TokenCache
from distill.inference.load import share_compilations
from distill.training import mesh as meshes
from distill.training.program import make_program

STEPS = 16  # distinct batches, the first of the run's order

Seconds = tuple[float, float]  # of a step: by the clock, and of the CPU
Timed = Callable[[int, int], Seconds]  # (first step, steps) -> seconds of one


def native(
    run: RunConfig, cache: TokenCache, layout: str
) -> tuple[Timed, dict[str, object], list[list[tuple[int, int]]]]:
    """A function that times steps; facts of the compiled step; the sequences of each batch."""
    stream = BatchStream(
        cache, run.data, run.weighting, run.train.batch_size, run.train.seed, layout=layout
    )
    mesh = meshes.make_mesh(1, jax.devices()[:1])
    program = make_program(run, mesh)
    batches = [meshes.put_batch(stream.batch(step), mesh) for step in range(STEPS)]
    shapes = [str(jax.tree.map(np.shape, batch)) for batch in batches]
    by_shape = dict(zip(shapes, batches, strict=True))
    start = time.perf_counter()
    with program.context():
        compiled = {
            shape: program.train_step.lower(program.shapes, batch).compile()
            for shape, batch in by_shape.items()
        }
    seconds = time.perf_counter() - start
    state = program.init()
    facts = {
        "layout": layout,
        "shapes": len(compiled),
        "steps_by_shape": [shapes.count(shape) for shape in compiled],
        "compile_seconds": seconds,
        "temporary_bytes": [one.memory_analysis().temp_size_in_bytes for one in compiled.values()],
    }

    def timed(first: int, steps: int) -> Seconds:
        nonlocal state
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(first, first + steps):
            number = step % STEPS
            state, metrics = compiled[shapes[number]](state, batches[number])
        facts["loss"] = float(metrics["loss"])
        return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps

    return timed, facts, [stream.sequences(step) for step in range(STEPS)]


def padded(cache: TokenCache, run: RunConfig, steps: list[list[tuple[int, int]]]) -> dict:
    """The same sequences as padded arrays, by step, task and side, for layouts_torch.py."""
    arrays = {}
    for step, sequences in enumerate(steps):
        for number, task in enumerate(run.data.tasks):
            rows = [row for one, row in sequences if one == number]
            for side in ("inputs", "targets"):
                found = [cache.tokens["train", task, side][row] for row in rows]
                padded_BxL = np.zeros((len(found), max(map(len, found))), np.int64)
                for row_L, tokens in zip(padded_BxL, found, strict=True):
                    row_L[: len(tokens)] = tokens
                arrays[f"{step}.{number}.{side}"] = padded_BxL
    return arrays


def torch_worker(python: str, folder: pathlib.Path, run: RunConfig, arrays: dict) -> Timed:
    """Starts layouts_torch.py; returns the function that times its steps."""
    np.savez(folder / "batches.npz", **arrays)
    settings = dataclasses.asdict(run.student) | {
        "task_weights": run.task_weights,
        "learning_rate": run.optimizer.learning_rate,
        "steps": STEPS,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    script = pathlib.Path(__file__).with_name("layouts_torch.py")
    worker = subprocess.Popen(
        [python, str(script), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def timed(first: int, steps: int) -> Seconds:
        print(first, steps, file=worker.stdin, flush=True)
        wall, cpu = worker.stdout.readline().split()
        return float(wall), float(cpu)

    return timed


def measure(engines: dict[str, Timed], rounds: int, steps: int) -> dict[str, list[Seconds]]:
    """Seconds of a step in each round; the order turns, so that none always follows another."""
    found: dict[str, list[Seconds]] = {name: [] for name in engines}
    names = [*engines]
    for name in names:
        engines[name](0, 1)  # the first call is slower
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(engines[name](number * steps, steps))
    return found


def render(found: dict[str, list[Seconds]], pairs: int) -> str:
    """The table."""
    rows = []
    for name, seconds in found.items():
        wall, cpu = ([one[kind] for one in seconds] for kind in (0, 1))
        ratios = [
            [packed[kind] / own[kind] for packed, own in zip(found[PACKED], seconds, strict=True)]
            for kind in (0, 1)
        ]
        middle = statistics.median
        rows.append(
            (
                name,
                f"{middle(wall):.3f} ({min(wall):.3f}-{max(wall):.3f})",
                f"{pairs / middle(wall):.1f}",
                f"{middle(ratios[0]):.2f} ({min(ratios[0]):.2f}-{max(ratios[0]):.2f})",
                f"{middle(cpu):.3f} ({min(cpu):.3f}-{max(cpu):.3f})",
                f"{middle(ratios[1]):.2f}",
            )
        )
    header = ("", "s/step", "pairs/s", "packed / it", "CPU s/step", "packed / it")
    return table.render_columns(header, rows, "<>>>>>")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", help="the released data (macro RAW_DIR)")
    parser.add_argument("--vocabulary_path", help="SentencePiece model (VOCABULARY_PATH)")
    parser.add_argument("--torch", help="a Python with torch and transformers")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2, help="steps of each engine in a round")
    parser.add_argument("--out", help="a JSON file to write")
    parser.add_argument("macros", nargs="*", metavar="NAME=value", help="later wins")
    options = parser.parse_args(arguments)
    overrides = ["TIE_EMBEDDINGS=True", "BATCH_SIZE=32"]
    overrides += [f"RAW_DIR={options.raw_dir}"] if options.raw_dir else []
    overrides += [f"VOCABULARY_PATH={options.vocabulary_path}"] if options.vocabulary_path else []
    experiment = "cqa_mini_step_by_step"
    run = resolve.resolve([experiment], (*overrides, *options.macros)).run
    share_compilations()
    if options.raw_dir:
        cache = caches.load_cache(run.data)
    else:
        cache = workload.synthetic_rows(64 * run.train.batch_size)
    engines: dict[str, Timed] = {}
    facts = []
    for layout in (PACKED, FLAT):
        engines[layout], of_layout, steps = native(run, cache, layout)
        facts.append(of_layout)
        print(of_layout, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.torch:
            arrays = padded(cache, run, steps)
            engines["torch"] = torch_worker(options.torch, pathlib.Path(folder), run, arrays)
        found = measure(engines, options.rounds, options.steps)
    print(render(found, run.train.batch_size))
    if options.out:
        content = {"engines": found, "facts": facts, "batch_size": run.train.batch_size}
        pathlib.Path(options.out).write_text(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
