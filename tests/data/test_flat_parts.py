"""Flat batches in parts hold a step's sequences, dealt evenly, in shapes that all parts fit."""

import itertools

import numpy as np
import pytest
from test_flat_batches import draw, sequences_of, stream

from distill.config import resolve
from distill.data import cache as caches
from distill.data.batching import flat, flat_parts


@pytest.fixture(scope="module")
def run(micro):
    return resolve.resolve(["tickets_step_by_step"], micro).run


@pytest.fixture(scope="module")
def cache(run):
    return caches.load_cache(run.data)


@pytest.mark.parametrize("parts", [2, 3])
def test_the_parts_of_a_step_hold_its_sequences(run, cache, parts):
    whole, divided = stream(run, cache), stream(run, cache, parts=parts)
    for step in range(12):
        batch = divided.batch(step)
        assert all(len(array) == parts for array in batch.values())
        parts_found = [
            sequences_of({name: array[part] for name, array in batch.items()})
            for part in range(parts)
        ]
        assert sorted(itertools.chain(*parts_found)) == sequences_of(whole.batch(step))
        counts = [len(part) for part in parts_found]
        assert max(counts) - min(counts) <= 1


def test_there_are_no_more_parts_than_rows(run, cache):
    assert stream(run, cache, parts=100).parts == 8


def test_deal_balances_both_sides():
    rng = np.random.default_rng(0)
    for _ in range(20):
        inputs, targets = draw(rng, 64), draw(rng, 64)
        count = min(len(inputs), len(targets))
        inputs, targets = inputs[:count], targets[:count]
        dealt = flat_parts.deal(inputs, targets, 4)
        assert sorted(np.concatenate(dealt)) == list(range(count))
        for lengths in (inputs, targets):
            sums = [lengths[part].sum() for part in dealt]
            assert max(sums) - min(sums) <= lengths.max()


def test_pairs_of_a_label_and_a_rationale_are_not_dealt_by_task():
    """Their inputs are equally long, so that an order by inputs would part them by task."""
    inputs = np.repeat(np.arange(40, 24, -1), 2)
    targets = np.tile([2, 30], 16)
    for part in flat_parts.deal(inputs, targets, 2):
        assert (targets[part] == 2).sum() == 8


def test_shapes_are_chosen_for_the_largest_part():
    rng = np.random.default_rng(1)
    steps = [(lengths := draw(rng, 40), lengths[::-1]) for _ in range(64)]
    dealt = flat_parts.deal_steps(steps, 4)
    shapes = flat.choose_shapes(dealt, 10, 4)
    fits = [
        [shapes[0].fits(*part) for part in dealt[first : first + 4]] for first in range(0, 256, 4)
    ]
    assert all(shapes[-1].fits(*part) for part in dealt)
    assert np.mean([all(step) for step in fits]) > 0.5
    # One that is chosen for single parts leaves most steps to the large shape.
    single = flat.choose_shapes(dealt, 10)
    assert single[0].encoder_tokens <= shapes[0].encoder_tokens


def test_parts_suit_the_tokens_of_a_step():
    few, many = (np.full(16, 30), np.full(16, 10)), (np.full(256, 50), np.full(256, 18))
    assert flat_parts.suitable_parts([few] * 3) == 1
    assert flat_parts.suitable_parts([many] * 3) == 6


def test_a_step_of_which_a_part_fits_no_shape_is_packed(run, cache, monkeypatch):
    batches = stream(run, cache, parts=2)
    shape = batches._shapes[-1]
    assert "encoder_segment_ids" not in batches.batch(0)
    longest = max(part.max() for part in batches.lengths(0)[:1])
    short = tuple((count, min(length, int(longest) - 1)) for count, length in shape.encoder_classes)
    small = flat.FlatShape(shape.encoder_tokens, shape.decoder_tokens, short, shape.decoder_classes)
    monkeypatch.setattr(batches, "_shapes", (small,))
    assert "encoder_segment_ids" in batches.batch(0)
