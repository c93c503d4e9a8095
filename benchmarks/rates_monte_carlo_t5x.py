"""Does the mean gradient of stock T5X under `mixture_rates` reach the exact one, and what do its
own normalizers do?

    python benchmarks/rates_monte_carlo_t5x.py    (where T5X imports, docs/t5x.md)

Sequences have targets like CQA's (means near 2.9 and 30.2 tokens), random words. Their
gradients come from T5X's network and loss_fn, one by one; a padded batch's gradient is linear
in them, with coefficients that its normalizer gives, which is checked on whole batches first.
So millions of draws (with replacement, at the tasks' rates) cost no more than a sum. Printed
is the norm of (mean gradient - exact) over that of exact.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from distill.config.weighting import mixture_rates

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "engines"))
import parity

TASKS, WEIGHTS = ("label", "rationale"), {"label": 0.5, "rationale": 0.5}
POOLED, PER_SEQUENCE = "NUM_REAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"
_CHUNK = 1 << 20  # sequences that are drawn at once


def corpus(rows: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Padded batch of 2 * rows sequences, labels first, and their target lengths."""
    lengths = np.concatenate(
        [2 + rng.poisson(0.9, rows), np.clip(rng.normal(30.2, 10.0, rows), 6, 60).astype(int)]
    )
    width = int(lengths.max())
    targets = rng.integers(4, parity.CONFIG.vocab_size, (2 * rows, width)).astype(np.int32)
    targets[np.arange(width) >= lengths[:, None]] = 0
    inputs = rng.integers(4, parity.CONFIG.vocab_size, (2 * rows, 12)).astype(np.int32)
    return {
        "encoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_loss_weights": (targets > 0).astype(np.float32),
    }, lengths


def gradients(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, object, object]:
    """The gradient of each sequence's summed token losses [N, P], by T5X's loss_fn."""
    model = parity.t5x_model(parity.CONFIG, 1.0)
    params = jax.tree.map(jnp.asarray, parity.random_params(parity.CONFIG))

    @jax.jit
    def one(row: dict[str, jax.Array]) -> jax.Array:
        return ravel_pytree(jax.grad(lambda p: model.loss_fn(p, row, None)[0])(params))[0]

    rows = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(len(batch_of(batch)))]
    return np.stack([np.asarray(one(row), np.float64) for row in rows]), params, one


def batch_of(batch: dict[str, np.ndarray]) -> np.ndarray:
    """Any array whose first axis is that of the sequences."""
    return batch["decoder_target_tokens"]


def check_linear(batch: dict, lengths: np.ndarray, each: np.ndarray, params: object) -> float:
    """Largest relative difference of T5X's batch gradients from the sums, over normalizers."""
    chosen = np.arange(0, len(lengths), len(lengths) // 16)[:16]
    some = {k: v[chosen] for k, v in batch.items()}
    worst = 0.0
    for factor in (7.0, POOLED, PER_SEQUENCE):
        model = parity.t5x_model(parity.CONFIG, factor)
        grads = jax.jit(jax.grad(lambda p, b, m=model: m.loss_fn(p, b, None)[0]))(params, some)
        got = np.asarray(ravel_pytree(grads)[0], np.float64)
        by = {POOLED: lengths[chosen].sum(), PER_SEQUENCE: lengths[chosen] * len(chosen)}
        expected = (each[chosen].T / by.get(factor, factor)).T.sum(0)
        worst = max(worst, np.linalg.norm(got - expected) / np.linalg.norm(expected))
    return float(worst)


def mean_coefficients(
    lengths: np.ndarray,
    rates: np.ndarray,
    size: int,
    batches: int,
    normalizer: str | float,
    by_length: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """What each sequence's gradient counts in the mean gradient of many batches [N].

    Args:
      lengths: target lengths, labels first.
      rates: of the two tasks.
      size: B, sequences of a batch.
      batches: how many.
      normalizer: T5X's pooled one by name, or a constant divisor.
      by_length: whether a token weighs 1 / length.
      rng: draws.
    """
    rows, total = len(lengths) // 2, np.zeros(len(lengths))
    left = batches
    while left:
        now = min(left, max(_CHUNK // size, 1))
        task = rng.choice(2, (now, size), p=rates)
        drawn = task * rows + rng.integers(rows, size=(now, size))
        weights = 1.0 / lengths[drawn] if by_length else np.ones(drawn.shape)
        tokens = (weights * lengths[drawn]).sum(1, keepdims=True)
        divisor = tokens if normalizer == POOLED else normalizer
        total += np.bincount(drawn.ravel(), (weights / divisor).ravel(), len(lengths))
        left -= now
    return total / batches


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--batches", type=int, default=1_000_000, help="for the floors")
    parser.add_argument("--out", help="writes the numbers as JSON")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    batch, lengths = corpus(options.rows, rng)
    each, params, _ = gradients(batch)
    found = {"linear": check_linear(batch, lengths, each, params)}
    print(f"T5X's batch gradients are the sums, within {found['linear']:.1e}")
    by_task = lengths.reshape(2, -1)
    means = dict(zip(TASKS, by_task.mean(1).tolist(), strict=True))
    print("mean target tokens", means)
    for name in ("per_sequence", "per_token"):
        rates = mixture_rates(WEIGHTS, name, means)
        drawn = np.array([rates[task] for task in TASKS])
        by_length = name == "per_sequence"
        exact_scale = 1 / lengths if by_length else 1 / np.repeat(by_task.mean(1), options.rows)
        exact = (0.5 * exact_scale / options.rows) @ each
        pooled_mean = 1.0 if by_length else float(drawn @ by_task.mean(1))

        def error(size, batches, normalizer, drawn=drawn, by_length=by_length, exact=exact):
            counted = mean_coefficients(lengths, drawn, size, batches, normalizer, by_length, rng)
            return float(np.linalg.norm(counted @ each - exact) / np.linalg.norm(exact))

        curve = {n: error(32, n, 32 * pooled_mean) for n in (100, 1000, 10_000, options.batches)}
        found[f"{name}/constant divisor, 32 sequences, by batches"] = curve
        print(
            name,
            "constant divisor, B 32, by batches:",
            {n: f"{e:.4f} (x sqrt(n): {e * n**0.5:.2f})" for n, e in curve.items()},
        )
        floors = {
            size: [
                error(size, options.batches * 8 // size, kind)
                for kind in (size * pooled_mean, POOLED)
            ]
            for size in (8, 16, 32, 64, 128)
        }
        found[f"{name}/floors by B: constant, pooled weights"] = floors
        for size, (constant, pooled) in floors.items():
            print(f"  B {size}: constant {constant:.4f}, pooled {pooled:.4f}")
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
