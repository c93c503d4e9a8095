"""The cache made through SeqIO, and the indexed stream of batches."""

import dataclasses

import numpy as np
import pytest

from distill.config import resolve
from distill.config.weighting import mixture_rates
from distill.data import cache as caches
from distill.data import datasets
from distill.data.batching.batches import BatchStream


@pytest.fixture(scope="module")
def run(micro):
    return resolve.resolve(["tickets_step_by_step"], micro).run


@pytest.fixture(scope="module")
def cache(run):
    return caches.load_cache(run.data)


def test_cache_holds_the_rows_and_their_tokens(run, cache):
    from distill.data.cache import vocabulary_of

    words = vocabulary_of(run.data)
    splits = datasets.load_splits(run.data)
    assert [row.id for row in cache.rows["train"]] == [row.id for row in splits.train]
    assert len(splits.train) + len(splits.validation) == run.data.num_labels
    row = splits.train[3]
    tokens = cache.tokens["train", "rationale", "inputs"][3]
    assert words.decode(tokens.tolist()).strip() == f"[rationale] {row.input}"
    assert tokens[-1] == words.eos_id
    label = cache.tokens["train", "label", "targets"][3]
    assert words.decode(label.tolist()).strip() == row.label
    assert cache.mean_target_tokens("label") == 2


def test_second_load_reads_the_folder(run, cache, monkeypatch):
    monkeypatch.setattr(caches, "_write", lambda *_: pytest.fail("written again"))
    again = caches.load_cache(run.data)
    for key, ragged in cache.tokens.items():
        np.testing.assert_array_equal(again.tokens[key].values, ragged.values)


def test_other_settings_have_another_folder(run):
    other = dataclasses.replace(run.data, label_prefix="[answer] ")
    assert other.digest() != run.data.digest()


def _stream(run, cache, **settings):
    arguments = {"batch_size": 8, "seed": 0} | settings
    return BatchStream(cache, run.data, run.weighting, **arguments)


def test_each_epoch_is_a_permutation(run, cache):
    stream = _stream(run, cache)
    n = stream.num_rows
    slots = np.concatenate([stream.rows(step) for step in range(2 * n // 8 + 1)])
    first, second = slots[:n], slots[n : 2 * n]
    assert sorted(first) == sorted(second) == list(range(n))
    assert not np.array_equal(first, second)


def test_batches_depend_on_seed_and_step_alone(run, cache):
    straight = _stream(run, cache)
    from_the_middle = list(_stream(run, cache).batches(5, 8))
    for step, batch in enumerate(from_the_middle, start=5):
        for name, array in straight.batch(step).items():
            np.testing.assert_array_equal(batch[name], array)
    other = _stream(run, cache, seed=1)
    assert not np.array_equal(straight.rows(0), other.rows(0))


def test_label_and_rationale_of_a_row_share_a_batch(run, cache):
    batch = _stream(run, cache).batch(3)
    targets, tasks = batch["decoder_target_tokens"], batch["decoder_task_ids"]
    ends = targets == 1
    assert np.sum(ends & (tasks == 0)) == np.sum(ends & (tasks == 1)) == 8


def test_weights_of_a_task_sum_to_its_rows(run, cache):
    """per_sequence: exactly the rows; per_token: the rows in the mean over an epoch."""
    batch = _stream(run, cache).batch(0)
    for task in (0, 1):
        chosen = batch["decoder_loss_weights"][batch["decoder_task_ids"] == task]
        assert chosen.sum() == pytest.approx(8, rel=1e-6)


def test_a_row_multiple_is_kept(run, cache):
    assert len(_stream(run, cache, row_multiple=8).batch(0)["encoder_input_tokens"]) % 8 == 0


def test_errors_in_the_thread_reach_the_consumer(run, cache, monkeypatch):
    stream = _stream(run, cache)
    monkeypatch.setattr(stream, "batch", lambda step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(stream.batches(0, 2))


def _rates(run, normalization, label_weight=0.3):
    weighting = dataclasses.replace(
        run.weighting,
        scheme="mixture_rates",
        normalization=normalization,
        label_weight=label_weight,
        rationale_weight=1 - label_weight,
    )
    return dataclasses.replace(run, weighting=weighting)


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_rates_draw_each_task_at_its_rate_and_each_row_once_an_epoch(run, cache, normalization):
    drawn = _rates(run, normalization)
    stream = _stream(drawn, cache)
    sequences = [pair for step in range(60) for pair in stream.sequences(step)]
    assert len(sequences) == 60 * 8 * 2
    means = {task: cache.mean_target_tokens(task) for task in run.data.tasks}
    rate = mixture_rates({"label": 0.3, "rationale": 0.7}, normalization, means)["label"]
    labels = [row for task, row in sequences if task == 0]
    assert abs(len(labels) - rate * len(sequences)) <= 1
    n = stream.num_rows
    assert sorted(labels[:n]) == list(range(n)), "an epoch of the label task is a permutation"
    assert stream.sequences(7) == _stream(drawn, cache).sequences(7)
    assert stream.sequences(7) != _stream(drawn, cache, seed=1).sequences(7)


def test_weight_zero_leaves_one_task(run, cache):
    stream = _stream(_rates(run, "per_token", 0.0), cache)
    assert {task for task, _ in stream.sequences(3)} == {1}
    stream = _stream(_rates(run, "per_token", 1.0), cache)
    assert {task for task, _ in stream.sequences(3)} == {0}


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_rates_and_pairs_weigh_the_tasks_alike(run, cache, normalization):
    """Over many steps the summed token weights per row are those of the pairs."""

    def totals(stream):
        batches = [stream.batch(step) for step in range(150)]
        tasks = np.concatenate([b["decoder_task_ids"].ravel() for b in batches])
        weights = np.concatenate([b["decoder_loss_weights"].ravel() for b in batches])
        return [weights[tasks == k].sum() / (150 * 8) for k in (0, 1)]

    np.testing.assert_allclose(totals(_stream(_rates(run, normalization), cache)), 1, rtol=0.02)
    paired = dataclasses.replace(
        run, weighting=dataclasses.replace(run.weighting, normalization=normalization)
    )
    np.testing.assert_allclose(totals(_stream(paired, cache)), 1, rtol=0.02)


def test_per_token_batch_weighs_the_tokens_of_each_batch_alike(run, cache):
    weighting = dataclasses.replace(run.weighting, normalization="per_token_batch")
    batch = _stream(dataclasses.replace(run, weighting=weighting), cache).batch(2)
    for task in (0, 1):
        of_task = (batch["decoder_task_ids"] == task) & (batch["decoder_target_tokens"] > 0)
        weights = batch["decoder_loss_weights"][of_task]
        np.testing.assert_allclose(weights, 8 / of_task.sum(), rtol=1e-6)
