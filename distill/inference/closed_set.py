"""Scores of a row's closed label set, and the greedy answer that follows from the same pass."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from distill.config.student import T5Config
from distill.data.examples import Example
from distill.inference.greedy_batch import are_many, encode_by_group, on_one_cpu, suits_groups
from distill.inference.row_batches import power_of_two
from distill.student import label_tree
from distill.student.decoding import Encoded, encode, greedy_of_encoded
from distill.student.tree_scores import score_tree, score_tree_of_encoded
from distill.training.mesh import data_parallel, shard_like_params, to_host

# Numbers: what scoring may hold in a device's memory of the logits, or of a layer's attention.
_AT_ONCE = 1 << 26
_SMALL = 8  # rows; a batch of at most so many is always encoded once, to be ranked and decoded
# Nodes of a batch: usually as many standard deviations above the mean, else so much more.
_DEVIATIONS, _GROWTH, _NODES_MULTIPLE = 2.0, 1.15, 16
_FEW = 0.25  # share of a batch whose answers are better decoded together with those of others


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The student's view of one row's labels.

    Attributes:
      scores_C: log P(label | input) of each label, in nats.
      decoded: the tokens of the greedy answer; None if it is not known, since it is no label of
        the set, nor a prefix of one that ends.
    """

    scores_C: np.ndarray
    decoded: Sequence[int] | None


class ClosedSets:
    """Ranks the labels of rows, whose sets may differ, in batches of few shapes."""

    def __init__(
        self,
        config: T5Config,
        encode: Callable[[str], Sequence[int]],
        choices: Sequence[tuple[str, ...]],
        max_length: int,
    ) -> None:
        """Makes the trees of the sets.

        Args:
          config: the student's.
          encode: text -> token ids, EOS included.
          choices: the set of each row; rows with an equal set share its tree.
          max_length: tokens that greedy decoding gives at most, EOS included.
        """
        self._config, self._max_length, self._rows = config, max_length, len(choices)
        encode = functools.cache(encode)
        self._trees = {
            labels: label_tree.make_tree([encode(label) for label in labels])
            for labels in set(choices)
        }
        self._sizes = np.array([len(self._trees[labels]) for labels in choices])
        self._count = max(map(len, self._trees), default=0)
        lengths = [len(ids) for tree in self._trees.values() for ids in tree.labels]
        self._length = power_of_two(max(lengths, default=1))

    @property
    def shape(self) -> tuple[int, int]:
        """Labels of the largest set, and tokens of the longest label, rounded up."""
        return self._count, self._length

    def __call__(
        self,
        params: dict,
        tokens_BxI: np.ndarray,
        choices: Sequence[tuple[str, ...]],
        decodes: bool = False,
    ) -> list[Ranking]:
        """Ranks the labels of a batch.

        Args:
          params: parameters of the student.
          tokens_BxI: the rows' inputs; rows of padding may follow.
          choices: the set of each row, of those given before.
          decodes: whether greedy answers are wanted. On one CPU, those that the tree does not have
            are decoded where many rows of the batch need that.
        """
        if len(self._trees) == 1:
            arrays = self._shared_arrays
        else:
            trees = [self._trees[labels] for labels in choices]
            arrays = self._arrays(trees + trees[:1] * (len(tokens_BxI) - len(trees)))
        encoded = None
        settings = params, self._config, tokens_BxI
        if len(tokens_BxI) <= self._rows_at_once(arrays, on_one_cpu(params, tokens_BxI)):
            if suits_groups(*settings, self._rows):
                encoded = encode_by_group(*settings, positions=arrays.tokens_BxN.shape[1])
            elif decodes and _encodes_once(*settings, self._rows):
                encoded = _encode(*settings)
        scores_BxC, best_BxN = self._score(params, tokens_BxI, arrays, encoded)
        rankings = []
        for row, labels in enumerate(choices):
            tree = self._trees[labels]
            decoded = tree.greedy_path(best_BxN[row].tolist(), self._max_length)
            rankings.append(Ranking(scores_BxC[row, : len(labels)], decoded))
        if encoded is not None and decodes:
            return self._with_decoded(params, encoded, rankings)
        return rankings

    def _with_decoded(
        self, params: dict, encoded: Encoded, rankings: list[Ranking]
    ) -> list[Ranking]:
        """The rankings with all greedy answers, unless so few are missing that others may join."""
        is_open_B = np.zeros(len(encoded.cross_mask), bool)
        is_open_B[: len(rankings)] = [ranking.decoded is None for ranking in rankings]
        if is_open_B.sum() <= _FEW * len(is_open_B):
            return rankings
        settings = self._config, encoded, is_open_B, self._max_length
        decoded_BxT = np.asarray(greedy_of_encoded(params, *settings))
        return [
            dataclasses.replace(ranking, decoded=tokens) if ranking.decoded is None else ranking
            for ranking, tokens in zip(rankings, decoded_BxT.tolist(), strict=False)
        ]

    @functools.cached_property
    def _shared_arrays(self) -> label_tree.TreeArrays:
        """The arrays of the one set that all rows share."""
        return self._arrays([*self._trees.values()])

    def _arrays(self, trees: Sequence[label_tree.LabelTree]) -> label_tree.TreeArrays:
        nodes = label_tree.padded_nodes(max(map(len, trees)))
        return label_tree.to_arrays(trees, nodes, self._count, self._length)

    def _rows_at_once(self, arrays: label_tree.TreeArrays, in_chunks: bool) -> int:
        """Rows of a device whose scoring fits into memory.

        Args:
          arrays: of the rows.
          in_chunks: whether the logits of a few nodes at a time are computed, as on one CPU.
        """
        nodes = arrays.tokens_BxN.shape[1]
        logits = 0 if in_chunks else self._config.vocab_size
        return _AT_ONCE // (nodes * max(logits, self._config.num_heads * nodes))

    def _nodes_at_most(self, arrays: label_tree.TreeArrays, rows: int) -> int:
        """How many nodes to compute of a batch: one of few numbers, so that few programs compile.

        Args:
          arrays: of the batch's rows, or of one tree that they share; on the host.
          rows: of the batch.
        """
        trees, nodes = arrays.tokens_BxN.shape
        real = (np.count_nonzero(arrays.depths_BxN) + trees) * rows // trees
        mean, deviation = self._sizes.mean(), self._sizes.std()
        size = rows * mean + _DEVIATIONS * math.sqrt(rows) * deviation
        while size < real:  # long inputs may have long labels
            size *= _GROWTH
        return min(math.ceil(size / _NODES_MULTIPLE) * _NODES_MULTIPLE, rows * nodes)

    def _score(
        self,
        params: dict,
        tokens_BxI: np.ndarray,
        arrays: label_tree.TreeArrays,
        encoded: Encoded | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`score_tree`, of as many rows at once as fit into memory, or of rows that are encoded."""
        if encoded is not None:
            at_most = self._nodes_at_most(arrays, len(tokens_BxI))
            found = score_tree_of_encoded(params, self._config, encoded, arrays, at_most)
            return np.asarray(found[0]), np.asarray(found[1])
        is_on_cpu = on_one_cpu(params, tokens_BxI)
        rows = max(1, self._rows_at_once(arrays, is_on_cpu)) * data_parallel(params)
        parts = []
        for start in range(0, len(tokens_BxI), rows):
            chunk = slice(start, start + rows)
            inputs = shard_like_params(params, tokens_BxI[chunk])
            if len(arrays.tokens_BxN) == 1:
                tree = arrays
            else:
                tree = label_tree.TreeArrays(
                    *(shard_like_params(params, np.asarray(each[chunk])) for each in arrays)
                )
            at_most = self._nodes_at_most(tree, len(tokens_BxI[chunk])) if is_on_cpu else 0
            parts.append(score_tree(params, self._config, inputs, tree, at_most))
        scores, best = zip(*parts, strict=True)
        return np.concatenate([*map(to_host, scores)]), np.concatenate([*map(to_host, best)])


def _encodes_once(params: dict, config: T5Config, tokens_BxI: np.ndarray, rows: int) -> bool:
    """Whether a batch is encoded once although it does not suit `encode_by_group`.

    This takes longer to compile, so larger batches than _SMALL need many rows in all batches.

    Args:
      params: parameters of the student.
      config: its sizes.
      tokens_BxI: the inputs of the batch.
      rows: of all batches.
    """
    if config.narrow_scores or not on_one_cpu(params, tokens_BxI):
        return False
    return len(tokens_BxI) <= _SMALL or are_many(rows)


_encode = jax.jit(encode, static_argnames="config")


def closed_set_probabilities(scores_C: np.ndarray) -> np.ndarray:
    """P(label | input, the answer is in the closed set), float64 [C], which sums to 1.

    Args:
      scores_C: log P(label | input) of each label in nats, as from `score_tree`.
    """
    shifted_C = np.exp(scores_C.astype(np.float64) - scores_C.max())
    return shifted_C / shifted_C.sum()


def labels_outside(
    rows: Iterable[Example],
    labels: Sequence[str],
    correct: Callable[[str, str], bool],
    own_choices: bool,
) -> dict[str, int]:
    """Gold labels that no answer of a closed set can match, with their counts.

    Args:
      rows: with or without a label.
      labels: the student's closed set; () for free text.
      own_choices: whether a row's choices replace them: the student reads the choices, or ranks
        them. A student that does neither gives the labels that it was trained on.
      correct: (answer, gold label) -> whether it counts as correct.
    """
    outside: collections.Counter[str] = collections.Counter()
    for row in rows:
        closed = (own_choices and row.choices) or labels or row.choices
        if closed and row.label is not None and not any(correct(c, row.label) for c in closed):
            outside[row.label] += 1
    return dict(outside.most_common())
