"""One process of gpu_train.py: native's training step and greedy decoding on this device.

    PYTHONPATH=. python3 benchmarks/gpu_native.py --size base --layout 320x112 --out native.json

The step is what `distill train` runs: `BatchStream` packs the batches, `make_program` makes the
step. Batches are packed before the clock starts; that they go to the device is in the time.
`--attention` times one layer's attention instead, as the student computes it and as
`jax.nn.dot_product_attention` does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import gpu_workload as workload
from distill.config.student import T5Config
from distill.data.batching.batches import FLAT, PACKED, BatchStream
from distill.data.cache import TokenCache
from distill.student.attend import MASKED
from distill.student.decoding import greedy
from distill.student.params import param_count
from distill.training import mesh as meshes
from distill.training.program import make_program


def train(options: argparse.Namespace, config: T5Config, cache: TokenCache) -> tuple[dict, dict]:
    """Times training steps.

    Returns:
      What was measured, and the trained parameters.
    """
    lengths = options.layout
    run = workload.run_config(config, options.batch, *lengths)
    mesh = meshes.make_mesh(1, jax.devices()[:1])
    stream = BatchStream(
        cache, run.data, run.weighting, options.batch, run.train.seed, layout=options.batches
    )
    start = time.perf_counter()
    batches = [stream.batch(step) for step in range(workload.BATCHES)]
    packing = (time.perf_counter() - start) / len(batches)
    program = make_program(run, mesh)
    state = program.init()
    start = time.perf_counter()

    def step(index: int) -> dict:
        nonlocal state
        batch = meshes.put_batch(batches[index % len(batches)], mesh)
        with program.context():
            state, metrics = program.train_step(state, batch)
        return metrics

    jax.block_until_ready(step(0))
    first = time.perf_counter() - start
    for index in range(1, options.warmup):
        metrics = step(index)
    jax.block_until_ready(state)
    times = workload.time_groups(step, jax.block_until_ready, options.steps, options.group)
    metrics = step(0)
    steps = [stream.sequences(number) for number in range(workload.BATCHES)]
    report = {
        "step_seconds": dataclasses.asdict(times),
        "first_step_seconds": first,
        "packing_seconds": packing,
        "loss": float(metrics["loss"]),
        **_positions(batches[0]),
        "parameters": param_count(config),
        "peak_bytes": _peak_bytes(),
        **workload.step_counts(cache, config, steps),
    }
    return report, state.params


def _positions(batch: dict[str, np.ndarray]) -> dict[str, object]:
    """Rows of a packed batch, and the positions that products are computed on."""
    if "encoder_tokens" in batch:
        sizes = len(batch["encoder_tokens"]), len(batch["decoder_target_tokens"])
        return {"batches": FLAT, "encoder_positions": sizes[0], "decoder_positions": sizes[1]}
    encoder, decoder = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
    return {
        "batches": PACKED,
        "rows": len(encoder),
        "encoder_positions": encoder.size,
        "decoder_positions": decoder.size,
    }


def infer(options: argparse.Namespace, config: T5Config, params: dict, cache: TokenCache) -> dict:
    """Times greedy decoding of MAX_NEW_TOKENS tokens a row, as the evaluator calls it."""
    output = params["decoder"]["logits_dense"]["kernel"]
    output = output.at[:, workload.ENDS].set(0.0)
    params = params | {"decoder": params["decoder"] | {"logits_dense": {"kernel": output}}}
    batches = workload.inference_batches(cache, options.infer_rows, options.batch)

    def decode() -> list[np.ndarray]:
        return [
            np.asarray(greedy(params, config, tokens_BxI, workload.MAX_NEW_TOKENS))
            for tokens_BxI in batches
        ]

    return workload.time_decoding(decode, len(batches) * options.batch, options.passes)


def matmul_flops_per_second(size: int) -> float:
    """Products of bfloat16 matrices [size, size]: the best of five groups of ten."""
    left, right = (
        jax.random.normal(jax.random.key(seed), (size, size), jnp.bfloat16) for seed in (0, 1)
    )
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(left, right))
    times = workload.time_groups(
        lambda _: multiply(left, right), jax.block_until_ready, steps=50, group=10
    )
    return 2.0 * size**3 / times.least


def attention(options: argparse.Namespace, config: T5Config) -> dict:
    """Milliseconds of one encoder layer's attention, forward and backward, by implementation.

    Rows of the layout's input length as packed, and a sequence a row of 96 positions. With the
    relative bias and its gradient, and the mask of the segments; without dropout.
    """
    cache = workload.synthetic_rows(workload.BATCHES * options.batch)
    results = {}
    for length in (options.layout[0], 96):
        run = workload.run_config(config, options.batch, length, 128)
        batch = BatchStream(cache, run.data, run.weighting, options.batch, 0).batch(0)
        ids_BxI = jnp.asarray(batch["encoder_segment_ids"])
        mask = (ids_BxI[:, :, None] == ids_BxI[:, None, :])[:, None]
        for name in ("student", "xla", "cudnn"):
            key = f"{name} {len(ids_BxI)}x{length}"
            try:
                results[key] = _attention_milliseconds(name, config, mask)
            except Exception as error:  # what an implementation refuses is the result
                results[key] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return results


def _attention_milliseconds(name: str, config: T5Config, mask: jax.Array) -> float:
    rows, _, length, _ = mask.shape
    heads = config.num_heads
    shape = (rows, length, heads, config.head_dim)
    keys = jax.random.split(jax.random.key(0), 5)
    queries, keys_, values, cotangent = (
        jax.random.normal(key, shape, jnp.bfloat16) for key in keys[:4]
    )
    bias = jax.random.normal(keys[4], (1, heads, length, length), jnp.float32)

    def mixed(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
        if name != "student":
            return jax.nn.dot_product_attention(
                q, k, v, bias.astype(q.dtype), mask, scale=1.0, implementation=name
            )
        logits = jnp.einsum("bqhk,bshk->bhqs", q, k, preferred_element_type=jnp.float32) + bias
        weights = jax.nn.softmax(jnp.where(mask, logits, MASKED)).astype(q.dtype)
        return jnp.einsum("bhqs,bshk->bqhk", weights, v)

    @jax.jit
    def gradients(*arguments: jax.Array) -> tuple:
        return jax.vjp(mixed, *arguments)[1](cotangent)

    arguments = queries, keys_, values, bias
    jax.block_until_ready(gradients(*arguments))
    times = workload.time_groups(
        lambda _: gradients(*arguments), jax.block_until_ready, steps=50, group=10
    )
    return 1000 * times.median


def _peak_bytes() -> int:
    """Most bytes of the device in use at one time; of a CPU the process's memory."""
    statistics = jax.local_devices()[0].memory_stats()
    return (statistics or {}).get("peak_bytes_in_use") or workload.peak_host_bytes()


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes JSON; returns the exit code."""
    parser = workload.worker_parser(__doc__)
    parser.add_argument(
        "--layout", default="320x112", type=workload.layout, help="INPUT_LENGTHxTARGET_LENGTH"
    )
    parser.add_argument(
        "--batches", default=PACKED, choices=(PACKED, FLAT), help="macro LAYOUT of the steps"
    )
    parser.add_argument("--remat", default="none", help="macro REMAT")
    parser.add_argument("--scan-layers", action="store_true", help="macro SCAN_LAYERS = True")
    parser.add_argument("--attention", action="store_true", help="time attention alone")
    options = parser.parse_args(argv)
    if options.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        sys.exit(
            f"jax sees no GPU but {jax.devices()}; install the extra cuda, or give --device cpu"
        )
    config = workload.student(options.size, options.dtype, options.remat, options.scan_layers)
    report: dict = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if options.attention:
        report["attention"] = attention(options, config)
        Path(options.out).write_text(json.dumps(report))
        return 0
    cache = workload.synthetic_rows(workload.BATCHES * options.batch)
    report["train"], params = train(options, config, cache)
    report["matmul_flops_per_second"] = matmul_flops_per_second(options.matmul)
    Path(options.out).write_text(json.dumps(report))
    if options.infer_rows:
        report["infer"] = infer(options, config, params, cache)
        Path(options.out).write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
