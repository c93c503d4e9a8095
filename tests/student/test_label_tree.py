"""A closed label set that is scored as a tree, against each label by itself."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from distill.student.decoding import greedy
from distill.student.label_tree import LabelTree, make_tree, padded_nodes, to_arrays
from distill.student.tree_scores import _CHUNK, score_tree

# Prefixes that are shared, a label that is a prefix of another, one of EOS alone, a repeated one.
LABELS = [(7, 1), (7, 9, 1), (12, 5, 30, 1), (12, 5, 31, 1), (1,), (7, 9, 1)]
LENGTH = 10


def score(student, params, inputs, trees: list[LabelTree], nodes=None, count=None, length=None):
    arrays = to_arrays(
        trees,
        nodes or padded_nodes(max(map(len, trees))),
        count or max(len(tree.labels) for tree in trees),
        length or max(len(label) for tree in trees for label in tree.labels),
    )
    scores_BxC, best_BxN = score_tree(params, student.config, inputs, arrays)
    return np.asarray(scores_BxC), np.asarray(best_BxN)


def log_probs(student, params, tokens, label) -> np.ndarray:
    """float64 [B, T, V] by hand: the full forward pass of one label, log-softmax."""
    targets = np.tile(np.array(label, np.int32), (len(tokens), 1))
    batch = {
        "encoder_input_tokens": tokens,
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
    }
    logits = student.logits(batch, params).astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_each_prefix_stands_once_and_a_parent_before_its_children():
    tree = make_tree(LABELS)
    assert tree.tokens == (0, 7, 9, 12, 5, 30, 31)
    assert tree.parents == (0, 0, 1, 0, 3, 4, 4)
    assert tree.paths == ((0, 1), (0, 1, 2), (0, 3, 4, 5), (0, 3, 4, 6), (0,), (0, 1, 2))
    assert len(make_tree([])) == 1


def test_scores_and_best_tokens_are_those_of_each_label_by_itself(student, ending, inputs):
    tree = make_tree(LABELS)
    scores_BxC, best_BxN = score(student, ending, inputs, [tree])
    assert scores_BxC.dtype == np.float32
    for index, (label, path) in enumerate(zip(LABELS, tree.paths, strict=True)):
        by_hand_BxTxV = log_probs(student, ending, inputs, label)
        want_B = sum(by_hand_BxTxV[:, t, token] for t, token in enumerate(label))
        np.testing.assert_allclose(scores_BxC[:, index], want_B, rtol=1e-5)
        np.testing.assert_array_equal(best_BxN[:, path], by_hand_BxTxV.argmax(-1))


def test_logits_in_chunks_give_the_same_scores(student, ending, inputs):
    """Of trees of several sizes, whose nodes fill more than one chunk."""
    rng = np.random.default_rng(0)
    vocabulary = student.config.vocab_size
    sets = [
        [(*rng.integers(2, vocabulary, rng.integers(0, 4)).tolist(), 1) for _ in range(count)]
        for count in rng.integers(1, 90, len(inputs))
    ]
    trees = [make_tree(labels) for labels in sets]
    assert sum(map(len, trees)) > _CHUNK
    size = padded_nodes(max(map(len, trees)))
    for some in (trees, [max(trees, key=len)]):  # of each row, and shared by all
        arrays = to_arrays(some, size, 90, 4)
        want, want_best = score_tree(ending, student.config, inputs, arrays)
        at_most = sum(len(tree) for tree in some) * (len(inputs) // len(some))
        got, best = score_tree(ending, student.config, inputs, arrays, at_most)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
        for row, tree in enumerate(some * (len(inputs) // len(some))):
            np.testing.assert_array_equal(best[row, : len(tree)], want_best[row, : len(tree)])


def test_padding_changes_no_score(student, inputs):
    tree = make_tree(LABELS)
    want, best = score(student, student.params, inputs, [tree])
    tokens = np.pad(inputs, ((0, 0), (0, 4)))
    got, padded_best = score(student, student.params, tokens, [tree], 24, len(LABELS) + 2, 7)
    np.testing.assert_allclose(got[:, : len(LABELS)], want, rtol=1e-5)
    assert (got[:, len(LABELS) :] == -np.inf).all()
    np.testing.assert_array_equal(padded_best[:, : len(tree)], best[:, : len(tree)])


def test_rows_with_sets_of_their_own(student, inputs):
    """Order and number of a row's labels change nothing about each."""
    want, _ = score(student, student.params, inputs, [make_tree(LABELS)])
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(LABELS))[: rng.integers(1, 7)] for _ in inputs]
    trees = [make_tree([LABELS[i] for i in order]) for order in orders]
    got, _ = score(student, student.params, inputs, trees)
    for row, order in enumerate(orders):
        np.testing.assert_allclose(got[row, : len(order)], want[row, order], rtol=1e-5)
        assert (got[row, len(order) :] == -np.inf).all()


@pytest.mark.parametrize("max_length", [1, 2, 4, LENGTH])
def test_the_greedy_path_is_the_decoded_answer_or_none(student, ending, inputs, max_length):
    """Sets that hold some rows' answers: those are found, and no other answer is made up."""
    decoded = np.asarray(greedy(ending, student.config, inputs, max_length)).tolist()
    whole = np.asarray(greedy(ending, student.config, inputs, LENGTH)).tolist()
    answers = {tuple(row[: row.index(1) + 1]) for row in whole if 1 in row}
    assert len(answers) >= 2, "rows should end, or nothing is tested"
    tree = make_tree([*sorted(answers)[1:], *LABELS])
    _, best_BxN = score(student, ending, inputs, [tree])
    found = 0
    for row, tokens in enumerate(decoded):
        path = tree.greedy_path(best_BxN[row].tolist(), max_length)
        is_label = 1 in tokens and tuple(tokens[: tokens.index(1) + 1]) in tree.labels
        assert path is not None or not is_label
        if path is not None:
            assert path == tokens[: len(path)] and not any(tokens[len(path) :])
            found += 1
    assert found > 0 and (found < len(inputs) or max_length < LENGTH)


def test_a_scored_tree_works_inside_jit(student, inputs):
    arrays = to_arrays([make_tree(LABELS)], 8, len(LABELS), 4)
    rank = jax.jit(lambda params, tree: score_tree(params, student.config, inputs, tree)[0])
    got = rank(student.params, arrays)
    want = score_tree(student.params, student.config, inputs, arrays)[0]
    np.testing.assert_allclose(got, want, rtol=1e-6)
