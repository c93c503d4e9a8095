"""The native engine's process of benchmarks/speed.py.

    python3 -m benchmarks.speed_parts.native_worker FOLDER train packed|flat
    python3 -m benchmarks.speed_parts.native_worker FOLDER infer RUN_DIR

`train` runs the step of `distill train` on batches that were made beforehand; `infer` answers
rows with a trained student.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time

from benchmarks.speed_parts import protocol

LAP = protocol.Lap()

import jax  # noqa: E402  the time of the imports is measured
import numpy as np  # noqa: E402

from benchmarks.speed_parts import workload  # noqa: E402
from distill.common.matmul import matmul_flops_per_second  # noqa: E402
from distill.data import cache as caches  # noqa: E402
from distill.data.batching.batches import BatchStream  # noqa: E402
from distill.data.ragged import Ragged  # noqa: E402
from distill.inference import greedy_batch, row_batches  # noqa: E402
from distill.inference.compilations import share_compilations  # noqa: E402
from distill.inference.load import load_run  # noqa: E402
from distill.inference.row_batches import RowBatches  # noqa: E402
from distill.training import mesh as meshes  # noqa: E402
from distill.training.layouts import choose_parts  # noqa: E402
from distill.training.program import make_program  # noqa: E402


def bound(size: int) -> protocol.Fields:
    """The fastest of a few products of float32 matrices."""
    return {"flops_per_second": matmul_flops_per_second(size, "float32")}


def train(folder: pathlib.Path, layout: str) -> None:
    """Serves training steps and the input pipeline."""
    LAP.done("imports")
    settings = workload.read_settings(folder)
    run, steps = workload.resolve_run(settings), settings["steps"]
    share_compilations()
    cache = workload.load_cache(run, settings["scale"])
    size, seed = run.train.batch_size, run.train.seed
    mesh = meshes.make_mesh(1, jax.devices()[:1])
    how = {"layout": layout, "parts": choose_parts(run.train, mesh)}
    stream = BatchStream(cache, run.data, run.weighting, size, seed, **how)
    batches = [meshes.put_batch(stream.batch(step), mesh) for step in range(steps)]
    LAP.done("data")
    program = make_program(run, mesh)
    shapes = [str(jax.tree.map(np.shape, batch)) for batch in batches]
    with program.context():
        compiled = {
            shape: program.train_step.lower(program.shapes, batch).compile()
            for shape, batch in dict(zip(shapes, batches, strict=True)).items()
        }
    LAP.done("compile")
    state = jax.block_until_ready(program.init())
    LAP.done("init")

    def step(number: int) -> dict:
        nonlocal state
        number %= steps
        state, metrics = compiled[shapes[number]](state, batches[number])
        return metrics

    def take(first: int, count: int) -> protocol.Fields:
        for number in range(first, first + count):
            metrics = step(number)
        return {"loss": float(metrics["loss"])}

    def make_batches(count: int) -> protocol.Fields:
        for number in range(count):
            stream.batch(number)
        return {"batches": count}

    jax.block_until_ready(step(0))
    LAP.done("first step")
    facts: protocol.Fields = {
        "seconds": LAP.seconds,
        "shapes": len(compiled),
        "temporary_bytes": max(
            one.memory_analysis().temp_size_in_bytes for one in compiled.values()
        ),
        **_positions(batches),
    }
    protocol.serve(facts, {"train": take, "batches": make_batches, "bound": bound})


def _positions(batches: list[dict]) -> protocol.Fields:
    """Mean positions of a batch that dense layers compute."""
    names = {"encoder_tokens", "encoder_input_tokens"}, {"decoder_target_tokens"}
    sizes = [
        float(np.mean([batch[name].size for batch in batches for name in batch if name in side]))
        for side in names
    ]
    return {"encoder_positions": sizes[0], "decoder_positions": sizes[1]}


def infer(folder: pathlib.Path, run_dir: str) -> None:
    """Serves answers: of tokens, and of rows with and without their choices."""
    LAP.done("imports")
    greedy_batch.LEAST_ROWS = 0  # as for many rows: what they cost each is measured
    settings = workload.read_settings(folder)
    saved = np.load(folder / workload.INPUTS)
    inputs = Ragged(saved["values"], saved["offsets"])
    workload.resolve_run(settings)  # registers the datasets
    loaded = load_run(run_dir)
    cache = caches.load_cache(loaded.config.data)
    rows = [cache.rows["test"][index] for index in range(len(inputs))]
    length = settings["max_new_tokens"]
    LAP.done("data")
    batches: dict[int, RowBatches] = {}
    evaluators: dict[tuple[int, str], object] = {}
    in_flight = row_batches.IN_FLIGHT

    def set_in_flight(batch: int) -> None:
        """Has single rows answered one after the other, as a caller that waits for each."""
        row_batches.IN_FLIGHT = 1 if batch == 1 else in_flight

    def decode(batch: int, answers: bool) -> protocol.Fields:
        decoded = [[0]] * len(inputs)
        in_batches = batches.setdefault(batch, RowBatches(batch))

        def greedy(_: np.ndarray, tokens_BxI: np.ndarray) -> np.ndarray:
            settings = loaded.params, loaded.config.student, tokens_BxI, length
            counts = {"rows": len(inputs), "positions": greedy_batch.LABEL_TOKENS}
            return greedy_batch.decode_greedily(*settings, **counts)

        set_in_flight(batch)
        for indices, found_BxT in in_batches(inputs, "rows", greedy):
            for index, found_T in zip(indices, found_BxT.tolist(), strict=False):
                decoded[index] = found_T[: found_T.index(1)] if 1 in found_T else found_T
        return {"answers": decoded} if answers else {}

    def answer(batch: int, kind: str) -> protocol.Fields:
        how = "rank" if kind == "rank" else "decode"
        if (batch, how) not in evaluators:
            data = dataclasses.replace(loaded.config.data, target_length=length)
            train = dataclasses.replace(loaded.config.train, eval_batch_size=batch)
            config = dataclasses.replace(loaded.config, data=data, train=train)
            one = dataclasses.replace(loaded, config=config)
            evaluators[batch, how] = one.evaluator(answer=how)
        evaluator, asked = evaluators[batch, how], rows
        if kind == "decode":  # without a closed set nothing is ranked
            asked, evaluator.labels = [dataclasses.replace(row, choices=()) for row in rows], ()
        else:
            evaluator.labels = loaded.assets.labels
        set_in_flight(batch)
        evaluator.rows(loaded.params, asked, inputs, "gold")
        return {}

    start = time.perf_counter()
    decode(1, False)
    facts = {"seconds": LAP.seconds, "first_pass": time.perf_counter() - start}
    protocol.serve(facts, {"decode": decode, "answer": answer, "bound": bound})


if __name__ == "__main__":
    {"train": train, "infer": infer}[sys.argv[2]](pathlib.Path(sys.argv[1]), sys.argv[3])
