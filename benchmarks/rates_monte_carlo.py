"""Does the gradient of mixture rates approach the objective's? Native engine, any configuration.

    python benchmarks/rates_monte_carlo.py --gin_file=gin/experiments/tickets_step_by_step.gin

The exact gradient is that of all training pairs. Batches of rates are drawn with other seeds,
so they are independent, and their mean gradient is compared with the exact one after 1, 10,
... batches: a straight line of slope -1/2 in the logarithms is an unbiased estimator, a floor
is bias. The same batches with pooled tokens (each batch divided by its own number of target
tokens, as T5X does unless told otherwise) show such a floor.
A batch's gradient is a sum over its sequences. So each sequence's gradient is computed once,
what training computes on whole packed batches is held against the sum (to 1e-5), and then a
batch costs no more than drawing it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping

import jax
import jax.flatten_util
import numpy as np

import tasks  # noqa: F401  (registers the datasets)
from distill.config.resolve import resolve
from distill.config.run import RunConfig
from distill.config.weighting import mixture_rates, token_weight
from distill.data import cache as caches
from distill.data.batching import packing
from distill.data.batching.batches import BatchStream
from distill.data.batching.order import TaskOrder
from distill.data.cache import TokenCache
from distill.errors import UserError
from distill.student.params import init_params
from distill.training.step import loss_fn

CHECKED_BATCHES, TOLERANCE = 3, 1e-5


def main() -> int:
    """Prints one JSON object for each normalization, batch size and number of batches."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--gin_file", action="append", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=value")
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, nargs="+", default=[4, 16], help="pairs a batch")
    parser.add_argument("--labels", type=int, default=142, help="label budget: keep it small")
    options = parser.parse_args()
    try:
        for normalization in ("per_sequence", "per_token"):
            settings = [
                f"NUM_LABELS={options.labels}",
                "DROPOUT_RATE=0.0",
                f"NORMALIZATION={normalization}",
            ]
            run = resolve(options.gin_file, [*options.set, *settings]).run
            compare(run, options.pairs, options.batches)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compare(run: RunConfig, pairs_a_batch: list[int], batches: int) -> None:
    """Prints the relative error of the mean gradient for a growing number of batches."""
    cache = caches.load_cache(run.data)
    params = init_params(run.student, jax.random.key(0))
    summed_KxNxP = sequence_gradients(run, cache, params)
    lengths_KxN = np.stack([cache.tokens["train", t, "targets"].lengths for t in run.data.tasks])
    weighting = dataclasses.replace(run.weighting, scheme="mixture_rates")
    means = {task: cache.mean_target_tokens(task) for task in run.data.tasks}
    weights = dict(zip(run.data.tasks, run.task_weights, strict=True))
    rates = mixture_rates(weights, weighting.normalization, means)
    rates_K = np.array([rates[task] for task in run.data.tasks])
    # What a token weighs in the objective: its weight within the task times the task's.
    token_KxN = np.array(
        [
            [
                weights[task] * token_weight(int(n), weighting.normalization, means[task])
                for n in lengths_N
            ]
            for task, lengths_N in zip(run.data.tasks, lengths_KxN, strict=True)
        ]
    )
    exact_P = combine(token_KxN / lengths_KxN.shape[1], summed_KxNxP)
    drawn_KxN = token_KxN / (len(rates_K) * rates_K[:, None])
    rows = [np.arange(lengths_KxN.shape[1])] * len(rates_K)
    for pairs in pairs_a_batch:
        check(run, cache, params, pairs, drawn_KxN, summed_KxNxP)
        total, pooled = np.zeros_like(token_KxN), np.zeros_like(token_KxN)
        marks = {round(10**x) for x in np.arange(0, np.log10(batches) + 0.01, 0.5)}
        for count in range(1, batches + 1):
            # Independent batches: every one is the first of an order of its own.
            drawn = TaskOrder(rates_K, rows, seed=count).draw(np.arange(2 * pairs))
            at = tuple(np.array(drawn).T)
            np.add.at(total, at, drawn_KxN[at] / pairs)
            np.add.at(pooled, at, 1.0 / lengths_KxN[at].sum())
            if count in marks:
                mean_P = combine(total / count, summed_KxNxP)
                pooled_P = combine(pooled, summed_KxNxP)
                record = {
                    "normalization": weighting.normalization,
                    "sequences": 2 * pairs,
                    "batches": count,
                    "relative_error": distance(mean_P, exact_P),
                    "relative_error_pooled": distance(direction(pooled_P), direction(exact_P)),
                }
                print(json.dumps(record), flush=True)


def sequence_gradients(run: RunConfig, cache: TokenCache, params: Mapping) -> np.ndarray:
    """The gradient of each training sequence's summed token losses [K, N, P]."""
    lengths = run.data.input_length, run.data.target_length

    @jax.jit
    def one(batch: dict) -> jax.Array:
        ones = (1.0,) * len(run.data.tasks)
        key = jax.random.key(0)
        return flat(jax.grad(lambda p: loss_fn(p, batch, key, run.student, ones, 1.0)[0])(params))

    found = []
    for number, task in enumerate(run.data.tasks):
        inputs, targets = (cache.tokens["train", task, side] for side in ("inputs", "targets"))
        for row in range(len(targets)):
            if not len(targets[row]):
                name = cache.rows["train"][row].id
                raise UserError(f"row {name} has no {task}; choose data where every row has one")
            sequence = packing.TrainSequence(inputs[row], targets[row], number, 1.0)
            found.append(np.asarray(one(packing.pack([sequence], [[0]], 1, *lengths))))
    return np.stack(found).reshape(len(run.data.tasks), -1, found[0].size)


def check(
    run: RunConfig,
    cache: TokenCache,
    params: Mapping,
    pairs: int,
    drawn_KxN: np.ndarray,
    summed_KxNxP: np.ndarray,
) -> None:
    """Stops unless the gradient of whole packed batches is the sum over their sequences."""
    weighting = dataclasses.replace(run.weighting, scheme="mixture_rates")
    stream = BatchStream(cache, run.data, weighting, pairs, seed=1)
    gradient = jax.jit(
        jax.grad(
            lambda p, batch: loss_fn(
                p, batch, jax.random.key(0), run.student, run.task_weights, float(pairs)
            )[0]
        )
    )
    for step in range(CHECKED_BATCHES):
        coefficients_KxN = np.zeros_like(drawn_KxN)
        at = tuple(np.array(stream.sequences(step)).T)
        np.add.at(coefficients_KxN, at, drawn_KxN[at] / pairs)
        error = distance(
            combine(coefficients_KxN, summed_KxNxP), flat(gradient(params, stream.batch(step)))
        )
        if not error < TOLERANCE:
            raise SystemExit(f"step {step}: the batch's gradient differs from its sum by {error}")


def flat(tree: Mapping) -> jax.Array:
    """All leaves of a tree, end to end [P]."""
    return jax.flatten_util.ravel_pytree(tree)[0]


def combine(coefficients_KxN: np.ndarray, gradients_KxNxP: np.ndarray) -> np.ndarray:
    """The weighted sum of gradients [P], in float64."""
    used = np.nonzero(coefficients_KxN)
    return np.einsum("n,np->p", coefficients_KxN[used], gradients_KxNxP[used].astype(np.float64))


def distance(a_P: np.ndarray, b_P: np.ndarray) -> float:
    """|a - b| over |b|."""
    return float(np.linalg.norm(a_P - b_P) / np.linalg.norm(b_P))


def direction(a_P: np.ndarray) -> np.ndarray:
    """a scaled to length 1: a pooled gradient has another scale as well."""
    return a_P / np.linalg.norm(a_P)


if __name__ == "__main__":
    sys.exit(main())
