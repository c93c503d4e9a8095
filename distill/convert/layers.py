"""Layers one by one or stacked, in parameters and in what an optimizer keeps of them.

There are two stacked forms. The native student with SCAN_LAYERS has one relative bias for a
stack, and attention's kernels are matrices, heads joined. T5X's scalable_t5 has a relative bias in
every layer (the same function where those are equal, as in checkpoints made of the published T5's,
and another model once they were trained apart), and kernels with an axis for heads.

Leaves are arrays, or `Unread`, of which only the relative biases are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from distill.convert import unread
from distill.convert.unread import Unread
from distill.errors import UserError
from distill.student import params as student_params
from distill.student.params import STACKS, unstack_layers

_BIAS = "relpos_bias"


def is_stacked(params: Mapping) -> bool:
    """Whether the layers of a parameter tree are stacked, in either form."""
    return all(name in params.get(stack, {}) for stack, name in STACKS.items())


def stack_layers(params: Mapping) -> dict:
    """`distill.student.params.stack_layers`, also of `Unread` leaves."""
    is_unread = any(isinstance(leaf, Unread) for leaf in jax.tree.leaves(params))
    return student_params.stack_layers(params, unread.stack if is_unread else None)


def stack_state(state: object) -> object:
    """`stack_layers` on every tree of parameters in a state (nested dicts)."""
    return _on_parameters(state, stack_layers)


def unstack_state(state: object) -> object:
    """`unstack_layers` on every tree of parameters in a state (nested dicts)."""
    return _on_parameters(state, unstack_layers)


def _on_parameters(state: object, change: Callable[[Mapping], dict]) -> object:
    if not isinstance(state, Mapping):
        return state
    if STACKS.keys() <= state.keys():
        return change(state)
    return {name: _on_parameters(part, change) for name, part in state.items()}


def from_scalable(params: Mapping) -> dict:
    """Parameters of scalable_t5 with their layers one by one and a relative bias a stack.

    Raises:
      UserError: layers whose relative biases differ.
    """
    unstacked = unstack_layers(params)
    for stack in STACKS:
        layers = {name: dict(part) for name, part in unstacked[stack].items()}
        biases = [part.pop(_BIAS) for name, part in layers.items() if name.startswith("layers_")]
        layers = {name: _joined_heads(part) for name, part in layers.items()}
        tables = [np.asarray(bias["rel_embedding"]) for bias in biases]
        if any(not np.array_equal(table, tables[0]) for table in tables):
            raise UserError(
                f"{stack}/{STACKS[stack]}/{_BIAS}: the relative biases of the layers differ, "
                "expected equal ones: a scanned T5X run trained them separately, but all layers of "
                "the student share one"
            )
        unstacked[stack] = {**layers, _BIAS: biases[0]}
    return unstacked


def to_scalable(params: Mapping) -> dict:
    """Parameters with layers one by one as scalable_t5 has them, each layer with the bias."""
    widened = dict(params)
    for stack in STACKS:
        parts = dict(params[stack])
        bias = parts.pop(_BIAS)
        heads = bias["rel_embedding"].shape[0]
        widened[stack] = {
            name: {**_split_heads(part, heads), _BIAS: bias} if "layers_" in name else part
            for name, part in parts.items()
        }
    return stack_layers(widened)


def _joined_heads(layer: Mapping) -> dict:
    """Attention's kernels as matrices; those that are stay."""

    def joined(kernel: Any, is_out: bool) -> Any:
        width = kernel.shape[-1 if is_out else 0]
        return kernel.reshape((-1, width) if is_out else (width, -1))

    return _on_attention(layer, joined)


def _split_heads(layer: Mapping, heads: int) -> dict:
    def split(kernel: Any, is_out: bool) -> Any:
        if is_out:
            return kernel.reshape((heads, -1, kernel.shape[-1]))
        return kernel.reshape((kernel.shape[0], heads, -1))

    return _on_attention(layer, split)


def _on_attention(layer: Mapping, change: Callable[[Any, bool], Any]) -> dict:
    return {
        name: {
            matrix: {"kernel": change(leaf["kernel"], matrix == "out")}
            for matrix, leaf in part.items()
        }
        if name.endswith("attention")
        else part
        for name, part in layer.items()
    }
