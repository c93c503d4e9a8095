"""Gradients of one step for all layouts of it: devices, microbatches, precision, packing.

    python tests/training/invariance_matrix.py [--all] NAME=value ...

A script of its own, since the number of CPU devices and 64-bit numbers are settled when jax
starts. Prints one JSON object: by precision and case, the largest error of a parameter's
gradient (norm of the difference over the norm) against one device, one part, a sequence a
row; the sequences that were trained on, as a digest; where parameters and rows lay. Some cases of
each kind; --all gives all.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import sys

os.environ["XLA_FLAGS"] = (
    # Little optimization: what is compared is many programs, each of which runs once.
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ["JAX_ENABLE_X64"] = "1"

import flax.linen as nn
import jax
import numpy as np

from distill.config import resolve
from distill.data import cache as caches
from distill.data.batching import packing
from distill.data.batching.batches import BatchStream
from distill.student.params import init_params, stack_layers, unstack_layers
from distill.training import mesh as meshes
from distill.training.step import accumulated, loss_fn

STEP = 1
DTYPES = ("float32", "float64")
# Devices, those that share the parameters, parts of the batch, layers scanned.
CASES = [
    (devices, model, parts, False)
    for devices in (1, 2, 4, 8)
    for model in (1, 2)
    for parts in (1, 2, 4)
    if model <= devices
] + [(4, 2, 2, True)]
SOME = [
    (1, 1, 4, False),
    (2, 1, 2, False),
    (4, 2, 4, False),
    (8, 1, 1, False),
    (8, 2, 2, False),
    CASES[-1],
]


def sequences_of(batch: dict[str, np.ndarray]) -> list[packing.TrainSequence]:
    """What a packed batch holds, in an order that does not depend on the layout."""
    found = []
    for row in range(len(batch["encoder_segment_ids"])):
        for segment in np.unique(batch["encoder_segment_ids"][row]).tolist():
            encoder = batch["encoder_segment_ids"][row] == segment
            decoder = batch["decoder_segment_ids"][row] == segment
            if segment:
                found.append(
                    packing.TrainSequence(
                        batch["encoder_input_tokens"][row, encoder],
                        batch["decoder_target_tokens"][row, decoder],
                        int(batch["decoder_task_ids"][row, decoder][0]),
                        float(batch["decoder_loss_weights"][row, decoder][0]),
                    )
                )
    return sorted(found, key=repr_of)


def repr_of(one: packing.TrainSequence) -> str:
    """All of a sequence, as text."""
    return repr((one.task, one.inputs.tolist(), one.targets.tolist(), one.weight))


def digest(batch: dict[str, np.ndarray]) -> str:
    """Of the sequences of a batch, however they are packed."""
    return hashlib.sha256("".join(map(repr_of, sequences_of(batch))).encode()).hexdigest()


def unpacked(batch: dict[str, np.ndarray], limits: tuple[int, int]) -> dict[str, np.ndarray]:
    """The same sequences, each in a row of its own."""
    sequences = sequences_of(batch)
    return packing.pack(sequences, [[n] for n in range(len(sequences))], len(sequences), *limits)


def gradient_fn(run, config, parts: int):
    """The gradient of the training step, by parameters and batch."""
    gradient = jax.value_and_grad(loss_fn, has_aux=True)
    gradient = accumulated(gradient, parts) if parts > 1 else gradient

    def compute(params, batch):
        divisor = float(run.train.batch_size)
        return gradient(params, batch, jax.random.key(0), config, run.task_weights, divisor)[1]

    return compute


def compute(run, cache, params, dtype: str, case: tuple) -> tuple[dict, dict, list]:
    """Gradient and batch of a case, and how many pieces an encoder kernel and a batch are in."""
    devices, model, parts, scan = case
    config = dataclasses.replace(run.student, dtype=dtype, scan_layers=scan)
    mesh = meshes.make_mesh(model, jax.devices()[:devices])
    multiple = mesh.shape["data"] * parts
    stream = BatchStream(cache, run.data, run.weighting, run.train.batch_size, 0, multiple)
    batch = stream.batch(STEP)
    shardings = meshes.param_shardings(config, mesh)
    with jax.set_mesh(mesh), nn.logical_axis_rules(meshes.RULES):
        placed = jax.device_put(stack_layers(params) if scan else params, shardings)
        rows = meshes.put_batch(batch, mesh)
        compiled = jax.jit(gradient_fn(run, config, parts), out_shardings=shardings)
        grads = jax.device_get(compiled(placed, rows))
    kernel = placed["token_embedder"]["embedding"]
    pieces = [
        len({str(shard.index) for shard in array.addressable_shards})
        for array in (kernel, rows["encoder_input_tokens"])
    ]
    return unstack_layers(grads) if scan else grads, batch, pieces


def worst(got: dict, want: dict) -> float:
    """The largest relative error of a leaf; both trees must be of the same numbers' type."""

    def error(got, want) -> float:
        assert got.dtype == want.dtype, (got.dtype, want.dtype)
        return float(np.linalg.norm(got - want) / np.linalg.norm(want))

    return max(jax.tree.leaves(jax.tree.map(error, got, want)))


def main(overrides: list[str], every: bool) -> dict:
    """The report; of all cases, or of some."""
    run = resolve.resolve(["tickets_step_by_step"], overrides).run
    cache = caches.load_cache(run.data)
    limits = run.data.input_length, run.data.target_length
    start = jax.device_get(init_params(run.student, jax.random.key(0)))
    found = {}
    for dtype in DTYPES:
        params = jax.tree.map(functools.partial(np.asarray, dtype=dtype), start)
        stream = BatchStream(cache, run.data, run.weighting, run.train.batch_size, 0)
        alone = unpacked(stream.batch(STEP), limits)
        config = dataclasses.replace(run.student, dtype=dtype)
        want = jax.device_get(jax.jit(gradient_fn(run, config, 1))(params, alone))
        kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(want)}
        found[dtype] = {"kinds": sorted(kinds), "alone": digest(alone), "cases": []}
        for case in CASES if every else SOME:
            grads, batch, pieces = compute(run, cache, params, dtype, case)
            found[dtype]["cases"].append(
                {
                    "case": case,
                    "error": worst(grads, want),
                    "sequences": digest(batch),
                    "rows": len(batch["encoder_input_tokens"]),
                    "pieces": pieces,
                }
            )
    return found


if __name__ == "__main__":
    words = sys.argv[1:]
    print(json.dumps(main([word for word in words if word != "--all"], "--all" in words)))
