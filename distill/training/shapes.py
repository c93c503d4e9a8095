"""The shapes of a saved state, compared before its arrays are read."""

from __future__ import annotations

from typing import Any

import jax

from distill.errors import UserError


def check_same_shapes(saved: object, params: object, checkpoint: str) -> None:
    """Refuses a checkpoint whose parameters have other shapes than those of the run.

    Args:
      saved: Orbax's metadata of the state.
      params: the parameters of the run, or their shapes.
      checkpoint: its folder, for the message.

    Raises:
      UserError: names the first parameter that differs.
    """
    tree: Any = getattr(saved, "tree", saved)
    saved_shapes = _shapes(tree["params"] if isinstance(tree, dict) else tree.params)
    expected_shapes = _shapes(params)
    for name in sorted(saved_shapes.keys() | expected_shapes.keys()):
        if saved_shapes.get(name) != expected_shapes.get(name):
            raise UserError(
                f"checkpoint {checkpoint} has another size: {name} is "
                f"{saved_shapes.get(name, 'absent')} there, expected "
                f"{expected_shapes.get(name, 'absent')} by the run's config.gin: the two are not "
                "of one run. Restore both from the same copy of the run folder"
            )


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: hasattr(node, "shape")
    )[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }
