"""Greedy decoding and label scores against the full forward pass."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from distill.errors import UserError
from distill.student.decoding import _decode, greedy, score_labels

LENGTH = 10


def test_greedy_is_t5x(golden):
    tokens = golden["plain/batch/encoder_input_tokens"]
    expected = golden["plain/greedy"]
    got = greedy(golden.tree("params"), golden.config, tokens, expected.shape[1])
    np.testing.assert_array_equal(got, expected)


@pytest.fixture(scope="module")
def ending(student):
    """The student with a logits kernel under which rows end at different positions."""
    kernel = np.array(student.params["decoder"]["logits_dense"]["kernel"])
    rng = np.random.default_rng(5)
    kernel[:, 1] += rng.normal(0, 0.35, kernel.shape[0])
    decoder = student.params["decoder"] | {"logits_dense": {"kernel": kernel}}
    return student.params | {"decoder": decoder}


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """16 rows of different lengths."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 40, (16, 12))
    return np.where(np.arange(12) < rng.integers(3, 13, (16, 1)), tokens, 0).astype(np.int32)


def by_full_forward(student, params, tokens) -> np.ndarray:
    """Greedy decoding without a cache: the whole forward pass for every position."""
    output = np.zeros((len(tokens), LENGTH), np.int32)
    ended = np.zeros(len(tokens), bool)
    for i in range(LENGTH):
        shifted = np.pad(output[:, :-1], ((0, 0), (1, 0)))
        batch = {
            "encoder_input_tokens": tokens,
            "decoder_input_tokens": shifted,
            # Only says which positions exist: all of them.
            "decoder_target_tokens": np.ones_like(output),
        }
        best = student.logits(batch, params)[:, i].argmax(-1)
        output[:, i] = np.where(ended, 0, best)
        ended |= output[:, i] == 1
    return output


def test_cache_changes_nothing_and_rows_end_with_eos(student, ending, inputs):
    got = np.asarray(greedy(ending, student.config, inputs, LENGTH))
    np.testing.assert_array_equal(got, by_full_forward(student, ending, inputs))
    ends = [row.tolist().index(1) if 1 in row else LENGTH for row in got]
    assert len(set(ends)) >= 3, "the rows should end at different positions, or nothing is tested"
    for row, end in zip(got, ends, strict=True):
        assert not row[end + 1 :].any()


def test_greedy_does_not_see_padding_or_neighbors(student, ending, inputs):
    expected = np.asarray(greedy(ending, student.config, inputs, LENGTH))
    wide = np.pad(inputs, ((0, 0), (0, 5)))[::-1]
    got = np.asarray(greedy(ending, student.config, wide, LENGTH))
    np.testing.assert_array_equal(got[::-1], expected)


def test_rows_of_padding_decode_to_padding(student, inputs):
    tokens = inputs.copy()
    tokens[1] = 0
    got = np.asarray(greedy(student.params, student.config, tokens, LENGTH))
    assert not got[1].any() and got[0].any()


def test_early_exit_computes_no_further_position(student, ending, inputs):
    full = np.asarray(greedy(ending, student.config, inputs, LENGTH))
    lengths = np.where((full == 1).any(1), (full == 1).argmax(1) + 1, LENGTH)
    short = lengths < LENGTH
    assert short.any() and not short.all()
    tokens = np.where(short[:, None], inputs, 0)  # the rows that never end become fillers
    decode = jax.jit(_decode, static_argnums=(1, 3))
    got, positions = decode(ending, student.config, tokens, LENGTH)
    assert positions == lengths[short].max()
    np.testing.assert_array_equal(got, np.where(short[:, None], full, 0))


def test_greedy_length_has_to_be_positive(student, inputs):
    with pytest.raises(UserError, match="TARGET_LENGTH"):
        greedy(student.params, student.config, inputs, 0)


LABELS = np.array([[7, 1, 0, 0], [7, 9, 1, 0], [12, 5, 30, 1]], np.int32)


def log_softmax_scores(student, tokens, labels) -> np.ndarray:
    """Scores [B, C] by hand: the full forward pass of each label, float64 log-softmax."""
    columns = []
    for label in labels:
        targets = np.tile(label, (len(tokens), 1))
        batch = {
            "encoder_input_tokens": tokens,
            "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
            "decoder_target_tokens": targets,
        }
        logits = student.logits(batch).astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        chosen = np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
        columns.append((chosen * (targets > 0)).sum(-1))
    return np.stack(columns, axis=1)


def test_scores_are_sums_of_log_softmax(student, inputs):
    got = score_labels(student.params, student.config, inputs, LABELS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, log_softmax_scores(student, inputs, LABELS), rtol=1e-5)


def test_padding_changes_no_score_and_no_choice(student, inputs):
    expected = np.asarray(score_labels(student.params, student.config, inputs, LABELS))
    tokens, labels = np.pad(inputs, ((0, 0), (0, 4))), np.pad(LABELS, ((0, 0), (0, 3)))
    got = np.asarray(score_labels(student.params, student.config, tokens, labels))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))


def test_labels_of_their_own_for_each_row(student, inputs):
    shared = np.asarray(score_labels(student.params, student.config, inputs, LABELS))
    rng = np.random.default_rng(1)
    order = np.stack([rng.permutation(len(LABELS)) for _ in inputs])
    own = LABELS[order]
    own[0, 2] = 0  # the first row has two labels only
    got = np.asarray(score_labels(student.params, student.config, inputs, own))
    expected = np.take_along_axis(shared, order, axis=1)
    assert got[0, 2] == -np.inf
    expected[0, 2] = -np.inf
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_decoding_works_inside_jit(student, inputs):
    """evaluate() may jit around both: config and length static."""

    @jax.jit
    def both(params, tokens):
        return (
            greedy(params, student.config, tokens, LENGTH),
            score_labels(params, student.config, tokens, LABELS),
        )

    tokens, scores = both(student.params, inputs)
    np.testing.assert_array_equal(tokens, greedy(student.params, student.config, inputs, LENGTH))
    assert scores.shape == (len(inputs), len(LABELS))
