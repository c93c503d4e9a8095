"""Flat batches hold a step's sequences, as a whole or in parts, in shapes that are chosen once."""

import dataclasses
import itertools

import numpy as np
import pytest

from distill.config import resolve
from distill.data import cache as caches
from distill.data.batching import flat, flat_parts
from distill.data.batching.batches import FLAT, BatchStream
from distill.data.batching.packing import TrainSequence


@pytest.fixture(scope="module")
def run(micro):
    return resolve.resolve(["tickets_step_by_step"], micro).run


@pytest.fixture(scope="module")
def cache(run):
    return caches.load_cache(run.data)


def stream(run, cache, seed=0, **settings):
    return BatchStream(cache, run.data, run.weighting, 8, seed, layout=FLAT, **settings)


def shapes_of(batch) -> tuple:
    return tuple(sorted((name, array.shape) for name, array in batch.items()))


def slots_of(batch, name) -> list[np.ndarray]:
    """The slots of each class of a map."""
    return [batch[key] for key in sorted(batch) if key.startswith(f"{name}_slots_")]


def sequences_of(batch) -> list[tuple]:
    """What a flat batch holds, read through its maps: inputs, targets, weight and task."""
    slots = {
        name: [row for slots_SxL in slots_of(batch, name) for row in slots_SxL]
        for name in ("decoder", "cross")
    }
    found = []
    for targets, inputs in zip(slots["decoder"], slots["cross"], strict=True):
        targets = targets[targets < len(batch["decoder_target_tokens"])]
        inputs = inputs[inputs < len(batch["encoder_tokens"])]
        if len(targets):
            shifted = batch["decoder_input_tokens"][targets]
            target = batch["decoder_target_tokens"][targets]
            assert shifted.tolist() == [0, *target[:-1]]
            assert len(set(batch["decoder_sequence"][targets])) == 1
            assert len(set(batch["encoder_sequence"][inputs])) == 1
            weights, tasks = (
                set(batch[f"decoder_{name}"][targets].tolist())
                for name in ("loss_weights", "task_ids")
            )
            tokens = batch["encoder_tokens"][inputs].tolist()
            found.append((tokens, target.tolist(), *weights, *tasks))
    return sorted(found)


@pytest.mark.parametrize("step", [0, 5, 17])
def test_a_batch_holds_the_sequences_of_its_step(run, cache, step):
    batches = stream(run, cache)
    want = [
        (one.inputs.tolist(), one.targets.tolist(), float(np.float32(one.weight)), one.task)
        for one in batches._sequences(step)
    ]
    batch = batches.batch(step)
    assert sequences_of(batch) == sorted(want)
    counts = [np.count_nonzero(batch[name]) for name in ("encoder_tokens", "decoder_loss_weights")]
    assert counts == [sum(len(one[side]) for one in want) for side in (0, 1)]


def test_maps_lead_there_and_back(run, cache):
    batch = stream(run, cache).batch(3)
    for name, tokens in (("encoder", "encoder"), ("decoder", "decoder"), ("cross", "encoder")):
        is_token = batch["encoder_tokens" if tokens == "encoder" else "decoder_loss_weights"] > 0
        slots = np.concatenate([slots_SxL.ravel() for slots_SxL in slots_of(batch, name)])
        places = batch[f"{name}_places"]
        np.testing.assert_array_equal(slots[places[is_token]], np.flatnonzero(is_token))
        assert (places[~is_token] == slots.size).all()
        assert (slots[np.setdiff1d(np.arange(slots.size), places)] == len(is_token)).all()


def test_all_steps_have_one_of_two_shapes_whatever_the_seed(run, cache):
    shapes = {
        shapes_of(stream(run, cache, seed).batch(step)) for seed in (0, 1, 2) for step in range(60)
    }
    assert 1 <= len(shapes) <= 2
    assert not any("encoder_segment_ids" in dict(shape) for shape in shapes)


def test_a_step_that_fits_no_shape_is_packed(run, cache, monkeypatch):
    batches = stream(run, cache)
    first = batches._shapes[0]
    small = dataclasses.replace(first, encoder_tokens=flat.TOKEN_MULTIPLE)
    monkeypatch.setattr(batches, "_shapes", (small,))
    packed = BatchStream(cache, run.data, run.weighting, 8, 0).batch(4)
    batch = batches.batch(4)
    assert batch.keys() == packed.keys()
    for name, array in packed.items():
        np.testing.assert_array_equal(batch[name], array)


def draw(rng, most: int) -> np.ndarray:
    """Lengths of a step with a long tail and a varying number of sequences."""
    return np.ceil(np.exp(rng.normal(2.5, 0.8, rng.integers(most - 3, most + 1)))).astype(int)


def test_large_shapes_fit_the_steps_they_were_chosen_from():
    rng = np.random.default_rng(0)
    steps = [(draw(rng, 20), draw(rng, 20)) for _ in range(64)]
    steps = [(inputs[: len(targets)], targets[: len(inputs)]) for inputs, targets in steps]
    usual, large = flat.choose_shapes(steps, 20)
    assert all(large.fits(*step) for step in steps)
    assert 32 < sum(usual.fits(*step) for step in steps) < 64
    assert usual.encoder_tokens < large.encoder_tokens
    for inputs, targets in steps:
        sequences = [
            TrainSequence(np.full(i, 2), np.full(t, 3), 0, 1.0)
            for i, t in zip(inputs, targets, strict=True)
        ]
        batch = flat.lay_out(sequences, large)
        assert np.count_nonzero(batch["encoder_tokens"]) == inputs.sum()
        assert np.count_nonzero(batch["decoder_loss_weights"]) == targets.sum()


def test_fits_looks_at_every_class():
    shape = flat.FlatShape(96, 96, ((1, 40), (3, 8)), ((4, 24),))
    targets = np.full(4, 3)
    assert shape.fits(np.array([8, 40, 8, 7]), targets)
    assert not shape.fits(np.array([9, 40, 8, 7]), targets)  # two of them are long
    assert not shape.fits(np.array([41, 8, 8, 7]), targets)
    assert not shape.fits(np.array([8, 8, 8, 8, 8]), np.full(5, 3))
    assert not shape.fits(np.array([8, 8, 8, 8]), np.array([24, 24, 24, 25]))
    assert not shape.fits(np.full(4, 8), np.array([24, 24, 24, 24, 1]))


def test_steps_of_equal_lengths_have_one_shape():
    """The usual one would save nothing."""
    steps = [(np.full(6, 16), np.full(6, 8))] * 10
    assert flat.choose_shapes(steps, 6) == (flat.FlatShape(96, 64, ((6, 16),), ((6, 8),)),)


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
    single = flat.choose_shapes(dealt, 10)  # as if each part were a step of its own

    def fitting(shape: flat.FlatShape) -> int:
        starts = range(0, len(dealt), 4)
        return sum(all(shape.fits(*part) for part in dealt[i : i + 4]) for i in starts)

    assert fitting(shapes[-1]) == 64
    assert fitting(shapes[0]) > fitting(single[0])


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
