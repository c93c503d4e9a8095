"""Floating-point operations of a step, counted twice: from its jaxpr, and from sizes alone.

XLA's cost analysis counts the body of a loop once, however often it runs. A jaxpr says how often
each scan runs and has the backward pass and its recomputation written out, so its products can
be counted exactly. Only products are counted (2 operations for each multiply-add): they are what
a chip's peak is about; the rest of a step is bound by memory. Letters: B rows, I encoder length,
T target length, D embed, J all heads together, F mlp, V vocabulary, L layers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distill.config.student import T5Config

if TYPE_CHECKING:
    from jax.extend.core import Jaxpr

_BUCKETS = 32  # of the relative position bias, whose table is multiplied with one-hot columns


def jaxpr_flops(jaxpr: Jaxpr, while_trips: int = 1) -> float:
    """Operations of all products of a jaxpr.

    Args:
      jaxpr: of the whole program, on all devices; closed or not.
      while_trips: how often a `while` runs, of which a jaxpr does not tell.

    Returns:
      2 * multiply-adds; of a `cond` those of its longest branch.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _dot_flops(equation)
        elif name == "scan":
            total += params["length"] * jaxpr_flops(params["jaxpr"], while_trips)
        elif name == "while":
            total += while_trips * jaxpr_flops(params["body_jaxpr"], while_trips)
        elif name == "cond":
            total += max(jaxpr_flops(branch, while_trips) for branch in params["branches"])
        else:
            total += sum(jaxpr_flops(inner, while_trips) for inner in _inner(params))
    return total


def _dot_flops(equation: Any) -> float:
    left = equation.invars[0].aval.shape
    contracted = equation.params["dimension_numbers"][0][0]
    result = math.prod(equation.outvars[0].aval.shape)
    return 2.0 * result * math.prod(left[axis] for axis in contracted)


def _inner(params: dict) -> Iterator[Any]:
    """The jaxprs that an equation calls: of jit, checkpoint, custom derivatives."""
    for value in params.values():
        if hasattr(getattr(value, "jaxpr", value), "eqns"):
            yield value


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Rows and lengths of a batch: encoder [rows, inputs], decoder [rows, targets]."""

    rows: int
    inputs: int
    targets: int

    @property
    def tokens(self) -> int:
        """Tokens of both sides, padding included."""
        return self.rows * (self.inputs + self.targets)


def forward_flops(config: T5Config, shapes: Shapes) -> float:
    """Operations of the products of one forward pass over a batch, the relative bias left out."""
    parts = _forward(config, shapes)
    return parts["layers"] + parts["attention"] + parts["logits"]


def training_flops(config: T5Config, shapes: Shapes, microbatches: int = 1) -> float:
    """Operations of the products of one training step, recomputation included.

    A product's backward pass is two of its size. REMAT = 'full' runs the layers' forward pass
    again, but for the last product of each, whose result no gradient needs; 'minimal'
    keeps the products with parameters and computes attention's own two again, or the scores alone
    if they are bfloat16 (`distill.student.attend`).

    Args:
      config: the student's.
      shapes: of the whole batch.
      microbatches: parts that it is computed in; each makes the relative bias again.
    """
    parts = _forward(config, shapes)
    recomputed = {
        "none": 0.0,
        "minimal": parts["attention"] * (0.5 if config.narrow_scores else 1.0),
        "full": parts["layers"] + parts["attention"] - parts["layers' last"],
    }[config.remat]
    of_column = 2.0 * config.num_heads * _BUCKETS
    lengths = shapes.inputs, shapes.targets
    # The bias is made of the distances of queries and keys.
    bias = microbatches * sum(of_column * (2 * length - 1) for length in lengths)
    # Of it a gradient goes to the table alone, not to the one-hot columns: once, or with bfloat16
    # scores in each layer and row, for each query and key.
    to_table = bias
    if config.narrow_scores:
        layers = config.num_encoder_layers, config.num_decoder_layers
        to_table = shapes.rows * sum(
            count * of_column * length**2 for count, length in zip(layers, lengths, strict=True)
        )
    return useful_flops(config, shapes) + recomputed + bias + to_table


def useful_flops(config: T5Config, shapes: Shapes) -> float:
    """Operations of a step without recomputation: three forward passes."""
    return 3.0 * forward_flops(config, shapes)


def _forward(config: T5Config, shapes: Shapes) -> dict[str, float]:
    d, j, f = config.embed_dim, config.joined_dim, config.mlp_dim
    inputs, targets = shapes.rows * shapes.inputs, shapes.rows * shapes.targets
    last = 2.0 * d * f
    mlp = 2.0 * len(config.mlp_activations) * d * f + last
    encoder = inputs * (8.0 * d * j + mlp)
    # Cross-attention makes keys and values of encoder tokens, queries and output of targets.
    decoder = targets * (12.0 * d * j + mlp) + inputs * 4.0 * d * j
    attention = config.num_encoder_layers * 4.0 * j * inputs * shapes.inputs
    attention += config.num_decoder_layers * 4.0 * j * targets * (shapes.targets + shapes.inputs)
    return {
        "layers": config.num_encoder_layers * encoder + config.num_decoder_layers * decoder,
        "layers' last": last
        * (config.num_encoder_layers * inputs + config.num_decoder_layers * targets),
        "attention": attention,
        "logits": 2.0 * d * config.vocab_size * targets,
    }
