"""One training state in two forms: the native engine's, and what a T5X checkpoint holds.

T5X stores {"target": parameters, "state": {"step", "param_states"}}. Parameters have the
same names in both. With AdamW `param_states` is optax's state without its empty parts;
T5X's Adafactor has the moments v, v_row and v_col beneath each parameter, optax's has a
tree of parameters beneath each moment. T5X's layers are one by one, native's as SCAN_LAYERS
says (`distill.convert.layers`). Leaves are arrays, or `Unread`, which stay so. Needs no t5x.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import serialization, traverse_util

from distill.config.optimizer import OptimizerConfig
from distill.config.student import T5Config
from distill.convert import layers
from distill.convert.unread import Unread
from distill.errors import UserError
from distill.student.network import Params
from distill.student.params import param_shapes
from distill.training.optimizer import make_optimizer

_MOMENTS = ("v", "v_row", "v_col")


class OtherShapes(UserError):
    """A checkpoint does not have the arrays of the configured student.

    Attributes:
      found: what differs, without the advice of the message.
    """

    def __init__(self, found: str, macros: str = "the size macros") -> None:
        super().__init__(f"{found}: set {macros} to those of the checkpoint")
        self.found = found


def from_t5x(
    saved: Mapping, student: T5Config, optimizer: OptimizerConfig
) -> tuple[int, Params, Any]:
    """Step, parameters and optax state from the nested dicts of a T5X checkpoint.

    Args:
      saved: {"target", "state"}, leaves arrays, layers one by one.
      student: says the parameters' names and shapes.
      optimizer: the one that T5X trained with.

    Raises:
      UserError: a parameter or a moment that is missing, too many, or of another shape.
    """
    params = params_from_t5x(saved["target"], dataclasses.replace(student, scan_layers=False))
    step = int(np.asarray(saved["state"]["step"]))
    rule = make_optimizer(optimizer)
    template = jax.eval_shape(rule.init, _shapes(params))
    stored = traverse_util.flatten_dict(saved["state"].get("param_states", {}), sep="/")
    if optimizer.name == "adafactor":
        stored = _optax_moments(_flat(template), stored, step)
    state = _filled(template, stored, "state/param_states")
    if student.scan_layers:
        params = layers.stack_layers(params)
        stacked: Any = layers.stack_state(serialization.to_state_dict(state))
        state = serialization.from_state_dict(jax.eval_shape(rule.init, _shapes(params)), stacked)
    return step, params, state


def params_from_t5x(target: Mapping, student: T5Config) -> Params:
    """The student's parameters from T5X's, whose layers are one by one or stacked.

    Raises:
      UserError: a parameter that is missing, too many, or of another shape; stacked layers
        whose relative biases differ.
    """
    if layers.is_stacked(target):
        target = layers.from_scalable(target)
    shapes = param_shapes(dataclasses.replace(student, scan_layers=False))
    params = _filled(shapes, traverse_util.flatten_dict(target, sep="/"), "target")
    return layers.stack_layers(params) if student.scan_layers else params


def to_t5x(step: int, params: Mapping, opt_state: object, optimizer: OptimizerConfig) -> dict:
    """The nested dicts of a T5X checkpoint, layers one by one, from a native state."""
    params = dict(params)
    state: Any = serialization.to_state_dict(opt_state)
    if layers.is_stacked(params):
        params, state = layers.unstack_layers(params), layers.unstack_state(state)
    flat = {
        path: _host(leaf)
        for path, leaf in _flat(state).items()
        if leaf is not traverse_util.empty_node
    }
    if optimizer.name == "adafactor":
        flat = _t5x_moments(flat, list(traverse_util.flatten_dict(params, sep="/")))
    states = traverse_util.unflatten_dict(flat, sep="/")
    target = jax.tree.map(_host, params)
    return {"target": target, "state": {"step": np.int32(step), "param_states": states}}


def _host(leaf: Any, dtype: np.dtype | None = None) -> Any:
    """A leaf as an array of the host, or still unread; in a type."""
    if isinstance(leaf, Unread):
        return leaf if dtype is None else leaf.astype(dtype)
    return np.asarray(leaf, dtype)


def _shapes(params: Params) -> Params:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)


def _flat(tree: object) -> dict[str, Any]:
    state: Any = serialization.to_state_dict(tree)
    return traverse_util.flatten_dict(state, keep_empty_nodes=True, sep="/")


def _filled(template: object, stored: Mapping[str, Any], where: str) -> Any:
    """The template's tree with stored arrays, by the names of their paths."""
    expected = _flat(template)
    leaves = {path for path, leaf in expected.items() if leaf is not traverse_util.empty_node}
    for path in sorted(leaves ^ stored.keys()):
        verb = "is" if path in stored else "is not"
        raise OtherShapes(
            f"{where}/{path} {verb} in the checkpoint, which does not match the configured student "
            "and optimizer",
            "the size macros and OPTIMIZER",
        )
    for path in sorted(leaves):
        if tuple(np.shape(stored[path])) != tuple(expected[path].shape):
            raise OtherShapes(
                f"{where}/{path} has shape {np.shape(stored[path])} in the checkpoint, expected "
                f"{tuple(expected[path].shape)}"
            )
    filled = {
        path: leaf if path not in leaves else _host(stored[path], leaf.dtype)
        for path, leaf in expected.items()
    }
    return serialization.from_state_dict(template, traverse_util.unflatten_dict(filled, sep="/"))


def _optax_moments(
    template: Mapping[str, object], stored: Mapping[str, Any], step: int
) -> dict[str, Any]:
    """Optax's flat Adafactor state: `.../<moment>/<parameter>` and counters."""
    moments: dict[str, Any] = {}
    for path, leaf in template.items():
        if leaf is traverse_util.empty_node:
            continue
        if path.rpartition("/")[2] == "count":
            moments[path] = np.asarray(step, np.int32)
            continue
        moment, parameter = _moment_of(path)
        source = f"{parameter}/{moment}"
        if source in stored:
            moments[path] = stored[source]
    return moments


def _t5x_moments(flat: Mapping[str, Any], parameters: list[str]) -> dict[str, Any]:
    """T5X's flat Adafactor state: `<parameter>/<moment>`, with m, which is not used."""
    moments: dict[str, Any] = {
        f"{parameter}/m": np.zeros((1,), np.float32) for parameter in parameters
    }
    for path, leaf in flat.items():
        if path.rpartition("/")[2] != "count":
            moment, parameter = _moment_of(path)
            moments[f"{parameter}/{moment}"] = leaf
    return moments


def _moment_of(path: str) -> tuple[str, str]:
    """Moment and parameter of a path of optax's state, such as `1/0/v_row/decoder/...`."""
    names = path.split("/")
    position = next(index for index, name in enumerate(names) if name in _MOMENTS)
    return names[position], "/".join(names[position + 1 :])
