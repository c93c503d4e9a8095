"""Greedy decoding against the full forward pass."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from distill.errors import UserError
from distill.student.attended import States
from distill.student.decoding import _decode, encode, first_argmax, greedy, greedy_after
from distill.student.network import apply_student, empty_cache

LENGTH = 10


def test_greedy_is_t5x(golden):
    tokens = golden["plain/batch/encoder_input_tokens"]
    expected = golden["plain/greedy"]
    got = greedy(golden.tree("params"), golden.config, tokens, expected.shape[1])
    np.testing.assert_array_equal(got, expected)


def by_full_forward(student, params, tokens, given=None) -> np.ndarray:
    """Greedy decoding without a cache: the whole forward pass for every position."""
    given = np.zeros((len(tokens), LENGTH), np.int32) if given is None else given
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
        output[:, i] = np.where(given[:, i] > 0, given[:, i], np.where(ended, 0, best))
        ended |= (output[:, i] == 1) & (given[:, i] == 0)
    return output


def test_cache_changes_nothing_and_rows_end_with_eos(student, ending, inputs):
    got = np.asarray(greedy(ending, student.config, inputs, LENGTH))
    np.testing.assert_array_equal(got, by_full_forward(student, ending, inputs))
    ends = [row.tolist().index(1) if 1 in row else LENGTH for row in got]
    assert len(set(ends)) >= 3, "the rows should end at different positions, or nothing is tested"
    for row, end in zip(got, ends, strict=True):
        assert not row[end + 1 :].any()


def test_the_encoders_states_serve_as_keys_and_values(student, ending, inputs):
    """The same logits of each position, but for rounding, and the same tokens."""
    got = greedy(ending, student.config, inputs, LENGTH, reads_states=True)
    np.testing.assert_array_equal(got, greedy(ending, student.config, inputs, LENGTH))
    config = dataclasses.replace(student.config, dtype="float64")
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), ending)
        logits = []
        for reads_states in (False, True):
            encoded = encode(wide, config, inputs, reads_states)
            assert isinstance(encoded.keys_values, States) == reads_states
            state = empty_cache(config, len(inputs), 2), *encoded
            first, cache = _decode_step(config, wide, inputs[:, 0], 0, *state)
            second, _ = _decode_step(config, wide, inputs[:, 1], 1, cache, *encoded)
            logits.append(np.stack([first, second]))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-11)
    assert np.std(logits[0]) > 0.1


def _decode_step(config, params, tokens, position, *state):
    return apply_student(config, params, tokens, position, *state, method="decode_step")


def test_decoding_goes_on_after_given_tokens_and_their_eos(student, ending, inputs):
    given = np.zeros((len(inputs), LENGTH), np.int32)
    for row, tokens in enumerate(given):
        tokens[: row % 4 + 1] = [*range(5, 5 + row % 4), 1]
    got = np.asarray(greedy_after(ending, student.config, inputs, given))
    np.testing.assert_array_equal(got, by_full_forward(student, ending, inputs, given))
    is_after = np.arange(LENGTH) > np.arange(len(inputs))[:, None] % 4
    assert ((got == 1) & is_after).any() and len(np.unique(got[is_after])) >= 3
    alone = np.asarray(greedy(ending, student.config, inputs, LENGTH))
    given = np.where(alone[:, -1:] == 0, alone, 0)  # what the student itself ends with EOS
    assert (given == 1).any()
    got = np.asarray(greedy_after(ending, student.config, inputs, given))
    np.testing.assert_array_equal(got, by_full_forward(student, ending, inputs, given))
    nothing = greedy_after(ending, student.config, inputs, np.zeros_like(given))
    np.testing.assert_array_equal(nothing, greedy(ending, student.config, inputs, LENGTH))


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


@pytest.mark.parametrize("size", [1, 7, 63, 64, 100, 128, 384, 640])
def test_first_argmax_is_argmax(size):
    """Of random numbers, of ties within and between blocks, of equal numbers."""
    rng = np.random.default_rng(size)
    logits = [rng.normal(size=(6, 3, size)), rng.integers(0, 4, (6, 3, size)), np.zeros((2, size))]
    for values in logits:
        got = first_argmax(values.astype(np.float32))
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, values.argmax(-1))


def test_decoding_works_inside_jit(student, inputs):
    """evaluate() may jit around it: config and length static."""
    decode = jax.jit(lambda params, tokens: greedy(params, student.config, tokens, LENGTH))
    tokens = decode(student.params, inputs)
    np.testing.assert_array_equal(tokens, greedy(student.params, student.config, inputs, LENGTH))
