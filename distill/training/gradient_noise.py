"""How noisy a batch's gradient is under each weighting scheme, measured on a student.

One pair gives the gradients g_label and g_rationale of its two sequences, each an unbiased
estimate of the gradient m_task of L_task. Over pairs they have the variance V_task (summed over
all parameters) and the covariance C. With weights w and rates r, a batch of 2B sequences has

  paired_batches  ( w_l^2 V_l + w_r^2 V_r + 2 w_l w_r C ) / B
  mixture_rates   ( sum over tasks of w^2 / r (V + |m|^2)  -  |w_l m_l + w_r m_r|^2 ) / 2B

where rates draw sequences one by one and with replacement; SeqIO's mixtures come close to that,
the native engine's even spread of tasks (distill/data/batching/order.py) saves the terms of m.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from distill.config.data import DataSpec
from distill.config.student import T5Config
from distill.config.weighting import token_weight
from distill.data.batching import packing
from distill.data.cache import TokenCache
from distill.student.network import Params
from distill.student.params import init_params
from distill.training.step import loss_fn


@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments of the gradients of label (l) and rationale (r) sequences, summed over parameters.

    Attributes:
      variance: V_l and V_r.
      covariance: C, of the two sequences of a row.
      product: |m_l|^2, |m_r|^2 and m_l . m_r, without the sample's own noise.
    """

    variance: tuple[float, float]
    covariance: float
    product: tuple[float, float, float]

    def paired(self, weights: Sequence[float], pairs: int) -> float:
        """Variance of the gradient of a batch of `pairs` pairs."""
        label, rationale = weights
        noise = label**2 * self.variance[0] + rationale**2 * self.variance[1]
        return (noise + 2 * label * rationale * self.covariance) / pairs

    def drawn(self, weights: Sequence[float], rates: Sequence[float], pairs: int) -> float:
        """Variance of the gradient of 2 * pairs sequences drawn at `rates`."""
        label, rationale = weights
        total = sum(
            weight**2 / rate * (variance + square)
            for weight, rate, variance, square in zip(
                weights, rates, self.variance, self.product[:2], strict=True
            )
            if weight
        )
        mean_square = label**2 * self.product[0] + rationale**2 * self.product[1]
        mean_square += 2 * label * rationale * self.product[2]
        return (total - mean_square) / (2 * pairs)


def sample_size(cache: TokenCache, spec: DataSpec, pairs: int) -> int:
    """How many pairs `measure` takes of the number that is asked for: those that there are."""
    return min(pairs, len(_complete(cache, spec)))


def measure(
    cache: TokenCache, spec: DataSpec, config: T5Config, normalization: str, pairs: int, seed: int
) -> Moments:
    """Moments over a sample of training pairs, at the student's initial parameters.

    Args:
      cache: tokens; its rows without a rationale are left out.
      spec: of a method with two tasks.
      config: the student whose gradients are taken, without dropout.
      normalization: "per_sequence" or "per_token".
      pairs: size of the sample N, at least 2; fewer if there are fewer rows.
      seed: seeds sample and parameters.
    """
    batches = _pairs(cache, spec, normalization, pairs, seed)
    params = init_params(config, jax.random.key(seed))
    config = dataclasses.replace(config, dropout_rate=0.0)
    sums = jax.device_get(_sums(params, batches, config))
    count = len(batches["decoder_task_ids"])
    squares, means = sums["squares"], sums["means"]
    products = [(s - count * m) / (count - 1) for s, m in zip(squares, means, strict=True)]
    label, rationale, both = (float(m - p / count) for m, p in zip(means, products, strict=True))
    variances = float(products[0]), float(products[1])
    return Moments(variances, float(products[2]), (label, rationale, both))


Sums = tuple[jax.Array, tuple[Params, Params]]  # of products, and of the two gradients


@functools.partial(jax.jit, static_argnames="config")
def _sums(
    params: Params, batches: Mapping[str, jax.Array], config: T5Config
) -> dict[str, jax.Array]:
    """Over pairs: sums of |g_l|^2, |g_r|^2, g_l . g_r; and the same of the mean gradients."""
    key = jax.random.key(0)

    def gradient(batch: Mapping[str, jax.Array]) -> Params:
        gradients: Params
        gradients, _ = jax.grad(loss_fn, has_aux=True)(params, batch, key, config, (1.0, 1.0), 1.0)
        return gradients

    def add(total: Sums, pair: Mapping[str, jax.Array]) -> tuple[Sums, None]:
        label, rationale = (gradient({k: v[t : t + 1] for k, v in pair.items()}) for t in (0, 1))
        products = _products(label, rationale)
        summed = jax.tree.map(jnp.add, total[1], (label, rationale))
        return (total[0] + products, summed), None

    zeros = jax.tree.map(jnp.zeros_like, (params, params))
    (squares, summed), _ = jax.lax.scan(add, (jnp.zeros(3), zeros), batches)
    count = batches["decoder_task_ids"].shape[0]
    return {"squares": squares, "means": _products(*summed) / count**2}


def _products(label: Params, rationale: Params) -> jax.Array:
    def dot(a: Params, b: Params) -> jax.Array:
        pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
        return jnp.asarray(sum(jnp.vdot(x, y) for x, y in pairs))

    return jnp.stack([dot(label, label), dot(rationale, rationale), dot(label, rationale)])


def _complete(cache: TokenCache, spec: DataSpec) -> np.ndarray:
    """The training rows with a rationale."""
    targets = cache.tokens["train", spec.tasks[1], "targets"]
    return np.flatnonzero(np.asarray(targets.lengths) > 0)


def _pairs(
    cache: TokenCache, spec: DataSpec, normalization: str, pairs: int, seed: int
) -> dict[str, np.ndarray]:
    """Unpacked batches [N, 2, ...] of N pairs: the label sequence, then the rationale's."""
    tokens = [[cache.tokens["train", t, s] for s in ("inputs", "targets")] for t in spec.tasks]
    complete = _complete(cache, spec)
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    rows = generator.choice(complete, min(pairs, len(complete)), replace=False)
    factors_N = cache.row_factors(np.asarray(tokens[1][1].lengths) > 0)
    longest = [max(int(t[s].lengths[rows].max()) for t in tokens) for s in (0, 1)]
    batches = []
    for row in rows:
        sequences = []
        for task, (inputs, targets) in enumerate(tokens):
            mean = cache.mean_target_tokens(spec.tasks[task])
            weight = token_weight(len(targets[row]), normalization, mean)
            weight *= 1.0 if factors_N is None else float(factors_N[row])
            sequences.append(packing.TrainSequence(inputs[row], targets[row], task, weight))
        batches.append(packing.pack(sequences, [[0], [1]], 2, *longest))
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
