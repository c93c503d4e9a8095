"""METHOD = 'answer_first' through SeqIO: the native engine's targets and token weights."""

from __future__ import annotations

import numpy as np
import pytest

from distill.config.resolve import resolve
from distill.data import cache
from distill.data.batching.batches import BatchStream
from distill.engines.t5x import mixtures as t5x_mixtures
from tasks import mixtures

SMALL = ["NUM_ROWS=60", "NUM_LABELS=40", "NUM_TEST=20", "BATCH_SIZE=4", "INPUT_LENGTH=40"]
# Labels have 2 tokens and rationales 7: the last one before EOS is cut.
SETTINGS = ["METHOD=answer_first", "TARGET_LENGTH=8", *SMALL]


def config_of(*overrides: str):
    names = ["gin/experiments/tickets_step_by_step.gin"]
    return resolve(names, [*SETTINGS, *overrides], "t5x").run


def sequences_of(config, pack: bool):
    """Input, target, tasks and weights of each sequence of an epoch, sorted."""
    import seqio

    rows = seqio.get_dataset(
        mixtures.mixture(config.data, config.weighting),
        t5x_mixtures.feature_lengths(config.data, pack),
        t5x_mixtures.feature_converter(config.data, config.weighting)(pack=pack),
        shuffle=True,
        seed=0,
        num_epochs=1,
    )
    found, count = [], 0
    for row in rows.as_numpy_iterator():
        count += 1
        targets = row.get("decoder_segment_ids", row["decoder_target_tokens"] > 0)
        inputs = row.get("encoder_segment_ids", row["encoder_input_tokens"] > 0)
        assert not row["decoder_loss_weights"][targets == 0].any()
        for segment in range(1, int(targets.max()) + 1):
            here = targets == segment
            names = "decoder_target_tokens", "decoder_task_ids", "decoder_loss_weights"
            arrays = [row[name][here].tolist() for name in names]
            found.append((row["encoder_input_tokens"][inputs == segment].tolist(), *arrays))
    return sorted(found), count


@pytest.mark.parametrize(
    ("pack", "normalization", "scheme"),
    [
        (False, "per_sequence", "mixture_rates"),
        (False, "per_token", "paired_batches"),
        (True, "per_sequence", "paired_batches"),
        (True, "per_token", "mixture_rates"),
    ],
)
def test_an_epoch_has_the_native_engines_sequences_and_weights(pack, normalization, scheme):
    config = config_of(f"NORMALIZATION={normalization}", f"WEIGHTING={scheme}")
    tokens = cache.load_cache(config.data)
    assert tokens.meta["tasks"]["rationale"]["targets"]["cut"] > 0
    found, rows = sequences_of(config, pack)
    stream = BatchStream(tokens, config.data, config.weighting, len(tokens.rows["train"]), seed=0)
    by_task = np.array(config.task_weights)
    native = sorted(
        (
            one.inputs.tolist(),
            one.targets.tolist(),
            one.task.tolist(),
            one.weight * by_task[one.task],
        )
        for one in stream._sequences(0)
    )
    assert len(found) == len(native) == 36
    for got, want in zip(found, native, strict=True):
        assert got[:3] == want[:3]
        np.testing.assert_allclose(got[3], want[3], rtol=1e-6)
    batch = t5x_mixtures.layout(config.data, config.weighting, 4, pack)
    if pack:
        assert batch.expected / batch.rows == pytest.approx(36 / rows, rel=0.1)
    else:
        assert (batch.rows, batch.expected) == (4, 4.0) and rows == 36
    lengths = t5x_mixtures.feature_lengths(config.data)
    assert lengths["targets"] == max(len(want[1]) for want in native) == 8


def test_rows_without_a_rationale_have_their_label_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            f'{{"input": "ticket {n:02}", "label": "no"{because}}}\n'
            for n in range(20)
            for because in [f', "rationale": "since {"y" * n}"' if n % 3 else ""]
        )
    )
    files = [f"TRAIN_FILE={path}", f"TEST_FILE={path}", "VOCABULARY=bytes", "LABELS=()"]
    more = ["METHOD=answer_first", "NUM_LABELS=0", "VALIDATION_FRACTION=0.0", "BATCH_SIZE=4"]
    names = ["gin/experiments/tickets_step_by_step.gin", "gin/data/jsonl.gin"]
    config = resolve(names, [*files, *more, "TARGET_LENGTH=40"], "t5x").run
    found, _ = sequences_of(config, pack=True)
    assert sum(1 not in tasks for _, _, tasks, _ in found) == 7
    for _, target, tasks, weights in found:
        assert target.count(1) == 1 + (1 in tasks)
        assert sum(weights) == pytest.approx(0.3 + 0.7 * (1 in tasks))
