"""The t5x engine's weighted data: pairs and mixtures through SeqIO, packed and not."""

from __future__ import annotations

import collections
import json

import numpy as np
import pytest

from distill.config.resolve import resolve
from distill.config.weighting import mixture_rates
from distill.data import cache, ragged
from distill.engines.t5x import mixtures as t5x_mixtures
from distill.engines.t5x import packing as t5x_packing
from tasks import mixtures

EXPERIMENT = "gin/experiments/tickets_step_by_step.gin"
SMALL = ["NUM_ROWS=60", "NUM_LABELS=40", "NUM_TEST=20", "BATCH_SIZE=4"]


def config_of(*overrides: str):
    return resolve([EXPERIMENT], [*SMALL, *overrides], "t5x").run


def read(config, pack: bool, count: int, rows: int = 0):
    """Rows of training data as T5X's converter gives them."""
    import seqio

    converter = t5x_mixtures.feature_converter(config.data, config.weighting)(pack=pack)
    dataset = seqio.get_dataset(
        mixtures.mixture(config.data, config.weighting),
        t5x_mixtures.feature_lengths(config.data, pack),
        converter,
        shuffle=True,
        seed=0,
        num_epochs=None if count else 1,
    )
    return list((dataset.take(count) if count else dataset).as_numpy_iterator())


def sequences_of(rows) -> list[tuple[int, tuple, tuple, np.ndarray]]:
    """Task, input, target and weights of each sequence in the rows."""
    found = []
    for row in rows:
        segments = row.get("decoder_segment_ids", row["decoder_target_tokens"] > 0)
        of_inputs = row.get("encoder_segment_ids", row["encoder_input_tokens"] > 0)
        for segment in sorted({int(s) for s in segments if s}):
            here = segments == segment
            (task,) = set(row["decoder_task_ids"][here].tolist())
            found.append(
                (
                    task,
                    tuple(row["encoder_input_tokens"][of_inputs == segment].tolist()),
                    tuple(row["decoder_target_tokens"][here].tolist()),
                    row["decoder_loss_weights"][here],
                )
            )
        assert not row["decoder_loss_weights"][segments == 0].any()
    return found


def corpus(config) -> collections.Counter:
    """Task, input and target of every training sequence, from the tokenized cache."""
    tokens = cache.load_cache(config.data).tokens
    sides = [
        (task, *(tokens["train", name, side] for side in ragged.FEATURES))
        for task, name in enumerate(config.data.tasks)
    ]
    return collections.Counter(
        (task, tuple(inputs[i].tolist()), tuple(targets[i].tolist()))
        for task, inputs, targets in sides
        for i in range(len(targets))
        if len(targets[i])
    )


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
@pytest.mark.parametrize("pack", [False, True])
def test_an_epoch_of_pairs_has_every_sequence_once_with_its_weight(pack, normalization):
    config = config_of("WEIGHTING=paired_batches", f"NORMALIZATION={normalization}")
    rows = read(config, pack, count=0)
    found = sequences_of(rows)
    assert collections.Counter(s[:3] for s in found) == corpus(config)
    if pack:
        assert len(rows) < len(found) / 1.5
    means = [cache.load_cache(config.data).mean_target_tokens(task) for task in config.data.tasks]
    for task, _, target, weights in found:
        divisor = len(target) if normalization == "per_sequence" else means[task]
        np.testing.assert_allclose(weights, (0.3, 0.7)[task] / divisor, rtol=1e-6)
        assert weights.dtype == np.float32


def test_an_unpacked_batch_of_pairs_is_whole():
    config = config_of("WEIGHTING=paired_batches")
    rows = read(config, pack=False, count=80)
    tokens = cache.load_cache(config.data).tokens
    partner = {
        tuple(tokens["train", "label", "inputs"][i].tolist()): tuple(
            tokens["train", "rationale", "inputs"][i].tolist()
        )
        for i in range(36)
    }
    inputs = [tuple(row["encoder_input_tokens"][row["encoder_input_tokens"] > 0]) for row in rows]
    assert [partner[label] for label in inputs[::2]] == inputs[1::2]
    batch = t5x_mixtures.layout(config.data, config.weighting, 4)
    assert batch == t5x_packing.Layout(8, 4.0)
    assert t5x_mixtures.loss_normalizing_factor(config.data, config.weighting, 4) == 4.0


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_rates_and_token_weights_give_the_tasks_their_shares(normalization, pack):
    config = config_of(f"NORMALIZATION={normalization}", f"PACK={pack}", "INPUT_LENGTH=40")
    tokens = cache.load_cache(config.data)
    rows = read(config, pack, count=600 if pack else 2000)
    found = sequences_of(rows)
    assert {s[:3] for s in found} == set(corpus(config))
    means = {task: tokens.mean_target_tokens(task) for task in config.data.tasks}
    rates = mixture_rates({"label": 0.3, "rationale": 0.7}, normalization, means)
    assert np.mean([s[0] == 0 for s in found]) == pytest.approx(rates["label"], abs=0.03)
    # Divided by the sequences, the weights of a task's tokens add up to its loss weight.
    batch = t5x_mixtures.layout(config.data, config.weighting, 4, pack)
    expected = len(rows) / batch.rows * batch.expected
    assert len(found) == pytest.approx(expected, rel=0.03)
    share = sum(float(s[3].sum()) for s in found if s[0] == 0) / expected
    assert share == pytest.approx(0.3, rel=0.1)


def test_rows_without_a_rationale_are_their_label_alone(tmp_path):
    lines = [
        {"input": f"a ticket of number {n}", "label": "repair"}
        | ({"rationale": f"late by {n} days"} if n % 3 else {})
        for n in range(40)
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    config = resolve(
        [EXPERIMENT, "gin/data/jsonl.gin"],
        [
            *SMALL[3:],
            "WEIGHTING=paired_batches",
            f"TRAIN_FILE={path}",
            f"TEST_FILE={path}",
            "VOCABULARY=bytes",
            "INPUT_LENGTH=96",
            "TARGET_LENGTH=64",
            "NUM_LABELS=0",
        ],
        "t5x",
    ).run
    found = sequences_of(read(config, pack=True, count=0))
    assert collections.Counter(s[:3] for s in found) == corpus(config)
    counts = collections.Counter(s[0] for s in found)
    assert counts[1] < counts[0]
    batch = t5x_mixtures.layout(config.data, config.weighting, 30)
    share = 1 + counts[1] / counts[0]
    assert batch.rows == round(30 * share)
    assert batch.expected == pytest.approx(batch.rows / share)


def test_data_of_other_kinds_is_converted_as_ever():
    import seqio

    config = config_of("WEIGHTING=paired_batches")
    name = mixtures.label_task(config.data)
    lengths = t5x_mixtures.decode_lengths(config.data)
    make = t5x_mixtures.feature_converter(config.data, config.weighting)
    ours, theirs = (
        list(seqio.get_dataset(name, lengths, c, "test").as_numpy_iterator())
        for c in (make(pack=False), seqio.EncDecFeatureConverter(pack=False))
    )
    assert len(ours) == len(theirs) == 20
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert all((one[k] == other[k]).all() and one[k].dtype == other[k].dtype for k in one)


def test_counted_rows_are_those_that_seqio_packs():
    import seqio
    import tensorflow as tf

    rng = np.random.default_rng(0)
    lengths = np.stack([rng.integers(1, 21, 90), rng.integers(1, 9, 90)], axis=1)
    limits = (24, 10)

    def rows():
        for i, t in lengths:
            yield {"inputs": np.ones(i, np.int32), "targets": np.ones(t, np.int32)}

    spec = {k: tf.TensorSpec([None], tf.int32) for k in ("inputs", "targets")}
    dataset = tf.data.Dataset.from_generator(rows, output_signature=spec)
    packed = seqio.utils.trim_and_pack_dataset(dataset, {"inputs": 24, "targets": 10})
    expected = len(list(packed.as_numpy_iterator()))
    assert t5x_packing.count_rows(lengths[:, 0], lengths[:, 1], limits) == expected


def test_expected_pairs_of_packed_rows():
    # Label (3, 2) and rationale (3, 4) tokens: pairs fill rows of (12, 12) two at a time.
    sequences = np.tile([[3, 2], [3, 4]], (50, 1, 1))
    rng = np.random.default_rng(0)
    assert t5x_packing.sequences_per_row(sequences, (12, 12), rng, ()) == pytest.approx(4)
    assert t5x_packing.sequences_per_row(sequences, (12, 4), rng, ()) == pytest.approx(1)
    drawn = t5x_packing.sequences_per_row(sequences, (12, 100), rng, (0.5, 0.5))
    assert drawn == pytest.approx(4)
    assert t5x_packing.nearest_layout(32, 2.1, 1) == t5x_packing.Layout(15, 15 * 2.1)
    assert t5x_packing.nearest_layout(32, 2.1, 8) == t5x_packing.Layout(16, 16 * 2.1)
    assert t5x_packing.nearest_layout(1, 5.0, 2) == t5x_packing.Layout(2, 10.0)
