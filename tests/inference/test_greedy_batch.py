"""The layout of a batch on one CPU: the same answers, with less work."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from short_answers import CONFIG, make_params

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.data.ragged import Ragged
from distill.inference import evaluator as evaluate
from distill.inference import greedy_batch
from distill.student import decoding
from distill.student.params import stack_layers
from distill.training.assets import of_data

LENGTH = 9
MANY = greedy_batch.LEAST_ROWS


@pytest.fixture(scope="module")
def params():
    return make_params()


def make_inputs(rows: int) -> np.ndarray:
    """Of 3 to 30 tokens, the longest first."""
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.integers(3, 31, rows))[::-1]
    tokens = rng.integers(2, 264, (rows, 32))
    return np.where(np.arange(32) < lengths[:, None], tokens, 0).astype(np.int32)


def ends(decoded: np.ndarray) -> np.ndarray:
    """Positions of each row, EOS included."""
    return np.where((decoded == 1).any(1), (decoded == 1).argmax(1) + 1, LENGTH)


@pytest.fixture(scope="module")
def ending(params) -> tuple[np.ndarray, np.ndarray]:
    """128 inputs and their answers: few rows need many positions, and five end at none."""
    tokens = make_inputs(512)
    decoded = np.asarray(decoding.greedy(params, CONFIG, tokens, LENGTH))
    positions = ends(decoded)
    endless, slow, quick = (
        np.flatnonzero(which)
        for which in (positions == LENGTH, (positions > 2) & (positions < LENGTH), positions <= 2)
    )
    slow = slow[:20]
    chosen = np.sort([*endless[:5], *slow, *quick[: 123 - len(slow)]])
    assert len(chosen) == 128 and len(slow) > 3
    return tokens[chosen], decoded[chosen]


@pytest.mark.parametrize(
    "scan_layers, positions",
    [(False, 2), (False, LENGTH), pytest.param(True, 2, marks=pytest.mark.slow)],
)
def test_groups_and_shrinking_batches_decode_the_same_tokens(
    params, ending, scan_layers, positions
):
    """Of 128 rows, which go on as 32 and as 8; some rows are padding."""
    config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
    params = stack_layers(params) if scan_layers else params
    tokens, want = ending[0].copy(), ending[1].copy()
    tokens[100:] = want[100:] = 0
    assert greedy_batch.suits_groups(params, config, tokens, MANY)
    on_states = greedy_batch.reads_states(params, config, tokens, positions)
    assert on_states == (positions == 2 and not scan_layers)
    got = greedy_batch.decode_greedily(params, config, tokens, LENGTH, MANY, positions)
    np.testing.assert_array_equal(got, want)


def test_rows_that_are_not_open_are_not_decoded(params):
    tokens = make_inputs(64)
    want = np.asarray(decoding.greedy(params, CONFIG, tokens, LENGTH))
    encoded = greedy_batch.encode_by_group(params, CONFIG, tokens, LENGTH)
    for chosen in (np.arange(64) % 3 > 0, np.arange(64) % 9 == 2, np.zeros(64, bool)):
        got = decoding.greedy_of_encoded(params, CONFIG, encoded, chosen, LENGTH)
        np.testing.assert_array_equal(got, np.where(chosen[:, None], want, 0))


def test_steps_are_computed_for_the_rows_that_are_left(params, ending, monkeypatch):
    tokens, decoded = ending
    steps = []
    step = decoding._step

    def counted(params, config, position, rows):
        jax.debug.callback(lambda: steps.append(len(rows.previous)))
        return step(params, config, position, rows)

    monkeypatch.setattr(decoding, "_step", counted)
    encoded = greedy_batch.encode_by_group(params, CONFIG, tokens, LENGTH)
    # Traced anew: the compiled function does not count.
    traced = decoding.greedy_of_encoded.__wrapped__
    decode = jax.jit(lambda encoded, is_open_B: traced(params, CONFIG, encoded, is_open_B, LENGTH))
    jax.block_until_ready(decode(encoded, jnp.ones(128, bool)))
    jax.effects_barrier()
    left = [int((ends(decoded) > position).sum()) for position in range(LENGTH)]
    want = [8 if rows <= 8 else 32 if rows <= 32 else 128 for rows in left]
    assert sorted(steps, reverse=True) == want and {*want} == {8, 32, 128}


def test_each_group_has_its_own_length(params, monkeypatch):
    """The encoder computes 16 rows at a time, at their length rounded up to a multiple of 8."""
    tokens, shapes = make_inputs(64), []
    tokens[50:] = 0
    states = greedy_batch._states

    def counted(params, config, tokens_BxI):
        shapes.append(tokens_BxI.shape)
        return states(params, config, tokens_BxI)

    monkeypatch.setattr(greedy_batch, "_states", counted)
    greedy_batch.encode_by_group(params, CONFIG, tokens, LENGTH)
    longest = (tokens > 0).sum(1).reshape(4, 16).max(1)
    assert shapes == [(16, -(-n // 8) * 8) for n in longest]
    assert len({*shapes}) >= 3
    shapes.clear()
    tokens = np.where(np.arange(64)[:, None] < 16, tokens, 0)
    greedy_batch.encode_by_group(params, CONFIG, tokens, LENGTH)
    assert len(shapes) == 1, "groups of padding alone are not computed"


def test_few_rows_small_batches_and_bfloat16_are_decoded_in_one_program(params):
    narrow = dataclasses.replace(CONFIG, dtype="bfloat16")
    assert greedy_batch.suits_groups(params, CONFIG, make_inputs(32), MANY)
    assert not greedy_batch.suits_groups(params, CONFIG, make_inputs(16), MANY)
    assert not greedy_batch.suits_groups(params, CONFIG, make_inputs(32), MANY - 1)
    assert not greedy_batch.suits_groups(params, narrow, make_inputs(32), MANY)


def test_states_are_read_where_that_costs_less(params):
    """For labels, not for rationales; for several rows; where attention has no other form."""
    tokens = np.ones((8, 56), np.int32)
    usual = dataclasses.replace(CONFIG, head_dim=64)

    def found(rows=8, length=56, positions=greedy_batch.LABEL_TOKENS, **sizes):
        config = dataclasses.replace(usual, **sizes)
        return greedy_batch.reads_states(params, config, tokens[:rows, :length], positions)

    assert found() and found(positions=1, length=8)
    assert not found(rows=1) and not found(positions=48) and not found(length=8)
    assert not found(dtype="bfloat16") and not found(scan_layers=True)


@pytest.mark.parametrize("batch_size", [64, 16])  # in groups, and as a whole
def test_answers_outside_the_set_share_the_encoder(params, monkeypatch, batch_size):
    """Where many rows of a batch need decoding, it starts from what ranking has encoded."""
    dataset = datasets.Dataset(name="sums", load=lambda spec: ([], []), labels=lambda _: ())
    monkeypatch.setitem(datasets._DATASETS, "sums", dataset)
    spec = DataSpec("sums", "finetune", vocabulary="bytes", target_length=LENGTH)
    evaluator = evaluate.Evaluator(spec, CONFIG, of_data(spec), batch_size=batch_size)
    tokens = make_inputs(64)[::-1]
    inputs = Ragged.of(row[row > 0] for row in tokens)
    decoded = np.asarray(decoding.greedy(params, CONFIG, tokens, LENGTH))
    texts = [evaluator._text(row.tolist()) for row in decoded]
    decodings, decode = [], greedy_batch.decode_greedily

    def counted(params, config, tokens_BxI, length, *counts):
        decodings.append(np.asarray(tokens_BxI).any(axis=1).sum())
        return decode(params, config, tokens_BxI, length, *counts)

    monkeypatch.setattr(greedy_batch, "LEAST_ROWS", 64)
    monkeypatch.setattr(evaluate, "decode_greedily", counted)
    for outside, fewest, most in ((range(0, 64, 2), 0, 0), ([4, 9], 2, 16)):
        sets = [("no", "such") if i in outside else (text, "x") for i, text in enumerate(texts)]
        rows = [Example(id=f"{i}", input="a", choices=one) for i, one in enumerate(sets)]
        decodings.clear()
        found = evaluator.rows(params, rows, inputs, "gold")
        assert [p.prediction for p in found] == texts
        assert fewest <= sum(decodings) <= most, "a few are decoded together with other batches'"
