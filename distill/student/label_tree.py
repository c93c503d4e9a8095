"""A closed label set as a tree of prefixes, so that what labels share is computed once.

The labels "[7, EOS]" and "[7, 9, EOS]" have three proper prefixes: (), (7) and (7, 9). The decoder
reads all of them in one pass, each prefix at its own position and seeing only its ancestors. The
logits at a prefix score every label that continues it.
Shape letters: N nodes (prefixes), C labels, T target length, B rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

PAD_ID = 0
EOS_ID = 1
_NODE_MULTIPLE = 8  # sizes of trees are rounded up to it, so that few sizes compile


class TreeArrays(NamedTuple):
    """Trees as the decoder reads them; all have B rows, or 1 row for a set that rows share.

    Attributes:
      tokens_BxN: int32, the last token of each prefix, 0 for the empty one (node 0).
      depths_BxN: int32, the number of tokens in each prefix.
      visible_BxNxN: bool, whether the second prefix is the first or one of its ancestors.
      path_BxCxT: int32, the node whose logits score each token of each label.
      targets_BxCxT: int32, the labels' tokens, EOS included, padded with 0.
    """

    tokens_BxN: np.ndarray | jax.Array
    depths_BxN: np.ndarray | jax.Array
    visible_BxNxN: np.ndarray | jax.Array
    path_BxCxT: np.ndarray | jax.Array
    targets_BxCxT: np.ndarray | jax.Array


@dataclasses.dataclass(frozen=True)
class LabelTree:
    """The tree of one label set.

    Attributes:
      labels: token ids of each label, EOS included.
      tokens: the last token of each node's prefix; node 0 is the empty prefix.
      parents: each node's parent; node 0 is its own.
      children: for each node, its children by their last token.
      paths: for each label, the node whose logits score each of its tokens.
    """

    labels: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    children: tuple[Mapping[int, int], ...]
    paths: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def greedy_path(self, best_N: Sequence[int], max_length: int) -> list[int] | None:
        """The tokens that greedy decoding gives, if the tree has the prefixes that it passes.

        Args:
          best_N: the most probable next token after each node.
          max_length: tokens to decode at most, EOS included.

        Returns:
          The tokens, EOS included unless they are cut; None if decoding leaves the tree.
        """
        node: int | None = 0
        decoded: list[int] = []
        while node is not None:
            token = int(best_N[node])
            decoded.append(token)
            if token == EOS_ID or len(decoded) == max_length:
                return decoded
            node = self.children[node].get(token)
        return None


def make_tree(labels: Sequence[Sequence[int]]) -> LabelTree:
    """The tree of the labels' proper prefixes.

    Args:
      labels: token ids of each label, EOS included.
    """
    tokens, parents = [PAD_ID], [0]
    children: list[dict[int, int]] = [{}]
    paths = []
    for label in labels:
        node, path = 0, [0]
        for token in label[:-1]:
            if token not in children[node]:
                children[node][token] = len(tokens)
                tokens.append(token)
                parents.append(node)
                children.append({})
            node = children[node][token]
            path.append(node)
        paths.append(tuple(path))
    ids = tuple(tuple(int(token) for token in label) for label in labels)
    return LabelTree(ids, tuple(tokens), tuple(parents), tuple(children), tuple(paths))


def padded_nodes(tree_size: int) -> int:
    """Nodes of the arrays that hold a tree of this size."""
    return -(-tree_size // _NODE_MULTIPLE) * _NODE_MULTIPLE


def to_arrays(trees: Sequence[LabelTree], nodes: int, count: int, length: int) -> TreeArrays:
    """Lays trees out, one per row.

    Args:
      trees: at least one.
      nodes: N, at least the size of the largest tree; the rest is padding that only sees node 0.
      count: C, at least the labels of the largest set; the rest are labels of padding alone.
      length: T, at least the tokens of the longest label.
    """
    rows = len(trees)
    arrays = TreeArrays(
        np.zeros((rows, nodes), np.int32),
        np.zeros((rows, nodes), np.int32),
        np.zeros((rows, nodes, nodes), bool),
        np.zeros((rows, count, length), np.int32),
        np.zeros((rows, count, length), np.int32),
    )
    arrays.visible_BxNxN[:, :, 0] = True
    for row, tree in enumerate(trees):
        arrays.tokens_BxN[row, : len(tree)] = tree.tokens
        for node in range(1, len(tree)):  # a parent comes before its children
            parent = tree.parents[node]
            arrays.depths_BxN[row, node] = arrays.depths_BxN[row, parent] + 1
            arrays.visible_BxNxN[row, node] = arrays.visible_BxNxN[row, parent]
            arrays.visible_BxNxN[row, node, node] = True
        for position, (label, path) in enumerate(zip(tree.labels, tree.paths, strict=True)):
            arrays.targets_BxCxT[row, position, : len(label)] = label
            arrays.path_BxCxT[row, position, : len(path)] = path
    return arrays
