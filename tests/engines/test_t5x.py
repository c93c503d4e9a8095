"""The t5x engine: mixtures and messages anywhere, stock T5X itself where it imports."""

from __future__ import annotations

import collections
import json
import sys

import pytest
from etils import epath

from distill.config.resolve import resolve
from distill.data import cache
from distill.engines.t5x import mixtures as t5x_mixtures
from distill.engines.t5x import train as engine
from distill.errors import UserError
from distill.inference import t5x_run
from tasks import mixtures

EXPERIMENT = "gin/experiments/tickets_step_by_step.gin"
SMALL = [
    *("NUM_ROWS=60", "NUM_LABELS=40", "NUM_TEST=20", "BATCH_SIZE=4", "EVAL_BATCH_SIZE=8"),
    *("TRAIN_STEPS=3", "WARMUP_STEPS=1", "SAVE_PERIOD=2", "LOG_PERIOD=1"),
    *("EMBED_DIM=8", "HEAD_DIM=4", "NUM_HEADS=2", "MLP_DIM=16"),
    *("NUM_ENCODER_LAYERS=1", "NUM_DECODER_LAYERS=1"),
]


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def run(*overrides: str, experiment: str = EXPERIMENT):
    return resolve([experiment], [*SMALL, *overrides], "t5x")


def weights(label: float, normalization: str = "per_sequence") -> list[str]:
    return [
        f"LABEL_WEIGHT={label}",
        f"RATIONALE_WEIGHT={round(1 - label, 6)}",
        f"NORMALIZATION={normalization}",
    ]


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
@pytest.mark.parametrize("label_weight", [0.3, 0.8])
def test_rates_give_each_task_its_weight_in_the_loss(label_weight, normalization):
    config = run(*weights(label_weight, normalization)).run
    rates = t5x_mixtures.rates(config.data, config.weighting)
    assert sum(rates.values()) == pytest.approx(1)
    assert t5x_mixtures.loss_normalizing_factor(config.data, config.weighting, 4) == 8
    scales = t5x_mixtures.token_scales(config.data, config.weighting)
    means = [cache.load_cache(config.data).mean_target_tokens(task) for task in rates]
    if normalization == "per_sequence":
        # Each sequence has weight 1, so the share of sequences is the weight.
        assert rates["label"] == pytest.approx(label_weight)
        assert scales == pytest.approx((1, 1))
        return
    # Every target token weighs the same, as with a pooled normalizer.
    assert scales[0] == pytest.approx(scales[1])
    summed = [r * s * m for r, s, m in zip(rates.values(), scales, means, strict=True)]
    assert summed == pytest.approx([label_weight, 1 - label_weight])


def test_the_mixture_draws_at_these_rates_and_its_name_tells_them_apart():
    import seqio

    config = run(*weights(0.3)).run
    name = mixtures.mixture(config.data, config.weighting)
    assert mixtures.mixture(config.data, config.weighting) == name
    other = run(*weights(0.5)).run
    assert mixtures.mixture(other.data, other.weighting) != name
    rows = seqio.get_mixture_or_task(name).get_dataset(
        t5x_mixtures.feature_lengths(config.data), "train", shuffle=True, seed=0, num_epochs=None
    )
    words = t5x_mixtures.vocabulary(config.data)
    seen = collections.Counter(
        words.decode(row["inputs"][:1]) for row in rows.take(1000).as_numpy_iterator()
    )
    assert seen["[label]"] / 1000 == pytest.approx(0.3, abs=0.05)
    assert seen["[rationale]"] == 1000 - seen["[label]"]


def test_a_task_without_weight_is_not_drawn():
    import seqio

    config = run(*weights(1.0)).run
    drawn = seqio.get_mixture_or_task(mixtures.mixture(config.data, config.weighting))
    assert [task.name for task in drawn.tasks] == [mixtures.label_task(config.data)]
    assert t5x_mixtures.token_scales(config.data, config.weighting)[1] == 0
    assert t5x_mixtures.layout(config.data, config.weighting, 4).rows == 8
    for scheme in ("paired_batches", "mixture_rates"):
        single = run(f"WEIGHTING={scheme}", experiment="gin/experiments/tickets_finetune.gin").run
        drawn = seqio.get_mixture_or_task(mixtures.mixture(single.data, single.weighting))
        assert [task.name for task in drawn.tasks] == [mixtures.label_task(single.data)]
        assert t5x_mixtures.token_scales(single.data, single.weighting) == (1,)
        assert t5x_mixtures.layout(single.data, single.weighting, 4).rows == 4


@pytest.mark.parametrize("scheme", ["mixture_rates", "paired_batches"])
def test_a_place_in_more_rows_than_are_shuffled_can_be_stored(scheme, tmp_path):
    """T5X stores it in every checkpoint; a Python generator's place cannot be."""
    import numpy as np
    import seqio
    import tensorflow as tf

    config = run("NUM_ROWS=1500", "NUM_LABELS=1400", f"WEIGHTING={scheme}").run
    name = mixtures.mixture(config.data, config.weighting)
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        t5x_mixtures.feature_lengths(config.data), "train", shuffle=True, seed=0, num_epochs=None
    )
    rows = iter(dataset)
    for _ in range(3):
        next(rows)
    place = tf.train.Checkpoint(ds=rows).write(str(tmp_path / "place"))
    expected = [next(rows)["inputs"].numpy() for _ in range(1500)]
    again = iter(dataset)
    tf.train.Checkpoint(ds=again).read(place).assert_consumed()
    for row in expected:
        np.testing.assert_array_equal(next(again)["inputs"], row)


def test_lengths_are_those_of_the_longest_sequences():
    config = run().run
    tokens = cache.load_cache(config.data).tokens
    lengths = t5x_mixtures.feature_lengths(config.data)
    for side in ("inputs", "targets"):
        longest = max(r.lengths.max() for key, r in tokens.items() if key[2] == side)
        assert lengths[side] == longest <= getattr(config.data, f"{side[:-1]}_length")
    assert t5x_mixtures.decode_lengths(config.data)["targets"] == 2  # one word and EOS
    single = run("METHOD=single_task", *weights(1.0)).run
    assert t5x_mixtures.decode_lengths(single.data)["targets"] == single.data.target_length


def test_saves_come_at_each_period_and_at_the_end():
    assert t5x_mixtures.checkpoint_steps(1000, 300) == (300, 600, 900, 1000)
    assert t5x_mixtures.checkpoint_steps(1000, 500) == (500, 1000)
    assert t5x_mixtures.checkpoint_steps(3, 500) == (3,)


def test_the_command_names_the_same_files_and_quotes_texts(tmp_path):
    folder = epath.Path(tmp_path / "run")
    arguments = engine.command(run("POLICY=hard", "MODEL_DIR=elsewhere"), folder)
    assert arguments[:3] == [sys.executable, "-m", "t5x.train"]
    gin_files = [a.split("=", 1)[1] for a in arguments if a.startswith("--gin_file=")]
    assert [path.split("gin/", 1)[1] for path in gin_files] == [
        "engines/t5x.gin",
        "experiments/tickets_step_by_step.gin",
    ]
    assert "--gin.POLICY='hard'" in arguments
    assert arguments[-1] == f"--gin.MODEL_DIR={str(folder / 't5x')!r}"
    (folder / "t5x" / "checkpoint_3" / "state").mkdir(parents=True)
    assert engine.command(run(), folder)[-1] == "--gin.train.run_eval_before_training=True"


def best(*overrides: str):
    return run("CHECKPOINT=best", "EVAL_PERIOD=2", "TRAIN_STEPS=8", *overrides)


def test_the_best_checkpoint_is_that_of_the_highest_validation_accuracy(tmp_path):
    folder, config = epath.Path(tmp_path), best().run
    with pytest.raises(UserError, match="no checkpoint in"):
        t5x_run.chosen_step(folder, config)
    for step in (0, 4, 6, 8):
        (folder / "t5x" / f"checkpoint_{step}" / "state").mkdir(parents=True)
    with pytest.raises(UserError, match="has been scored on the validation split"):
        t5x_run.chosen_step(folder, config)
    written = folder / "t5x" / "inference_eval"
    written.mkdir()
    lines = [{"step": s, "accuracy": a} for s, a in ((2, 0.9), (4, 0.7), (6, 0.7))]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 8, "acc'
    (written / "distill_x_label-metrics.jsonl").write_text(text)
    assert t5x_run.chosen_step(folder, config) == 6  # 2 is deleted, of 4 and 6 the later
    assert t5x_run.chosen_step(folder, run().run) == 8
    assert engine.command(best(), folder)[-1] == "--gin.train.run_eval_before_training=True"
    (written / "distill_x_label-metrics.jsonl").write_text('{"step": 8, "accuracy": 0.1}')
    assert engine.command(best(), folder)[-1] == f"--gin.MODEL_DIR={str(folder / 't5x')!r}"


def test_the_best_checkpoint_is_scored_by_t5xs_own_evaluation(tmp_path):
    folder = epath.Path(tmp_path)
    arguments = engine.evaluate_command(best(), folder, 6)
    assert arguments[1:3] == ["-m", "t5x.eval"]
    gin_files = [a.split("gin/", 1)[1] for a in arguments if a.startswith("--gin_file=")]
    assert gin_files == ["engines/t5x_evaluate.gin", "experiments/tickets_step_by_step.gin"]
    assert f"--gin.CHECKPOINT_PATH={str(folder / 't5x' / 'checkpoint_6')!r}" in arguments


def test_with_best_t5x_saves_what_it_decodes():
    assert (
        t5x_mixtures.eval_split("best") == "validation"
        and t5x_mixtures.eval_split("last") == "test"
    )
    assert t5x_mixtures.eval_period(1000, 100, "best") == 100
    assert t5x_mixtures.eval_period(50, 100, "best") == 50
    assert t5x_mixtures.eval_period(1000, 100, "last") == 1000
    assert t5x_mixtures.checkpoint_steps(1000, 300, "best") is None


def test_a_failed_child_is_an_error_with_the_end_of_its_log(tmp_path):
    log, shown = epath.Path(tmp_path / "t5x.log"), []
    script = """
print("I0101 mixtures.py:9] distill: a batch is 8 rows with 4.0 pairs")
print("INFO] distill_0a_label/accuracy at step 50: 0.875")
print("[50] collection=train loss=1.25, accuracy=0.5, loss_label=1.5")
raise SystemExit("no luck")
"""
    with pytest.raises(UserError, match=r"exit code 1; .*t5x\.log ends with:(.|\n)*no luck"):
        engine.run_child([sys.executable, "-c", script], log, 100, shown.append)
    assert "no luck" in log.read_text()
    assert shown[1:] == [
        "T5X: a batch is 8 rows with 4.0 pairs",
        "step 50: accuracy 0.875",
        "step 50/100  loss 1.25  label loss 1.5  token accuracy 0.5",
    ]


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            "distill.errors.UserError: got MODEL_PARALLEL = 3, expected a divisor",
            r"^got MODEL_PARALLEL = 3, expected a divisor \(T5X's output is in .*t5x\.log\)$",
        ),
        ("ModuleNotFoundError: No module named 'mytasks'", "cannot import 'mytasks'.*PYTHONPATH"),
        (
            "AssertionError: number of partitions on GPU must be a factor or multiple of the",
            "no mesh for MODEL_PARALLEL",
        ),
        ("ValueError: Model and Task vocabularies do not match:", "VOCABULARY_PATH"),
        (
            "ValueError: Unexpected total_steps (10) < checkpoint step  (20).",
            "TRAIN_STEPS = 10, .* step 20",
        ),
    ],
)
def test_known_failures_of_t5x_are_explained(printed, message, tmp_path):
    log = epath.Path(tmp_path / "t5x.log")
    script = f"print({printed!r}); print('  In call to configurable'); raise SystemExit(1)"
    with pytest.raises(UserError, match=message):
        engine.run_child([sys.executable, "-c", script], log, 100, lambda line: None)


def test_a_checkpoint_after_the_last_step_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "require_t5x", lambda: None)
    (tmp_path / "t5x" / "checkpoint_20" / "state").mkdir(parents=True)
    with pytest.raises(UserError, match=r"TRAIN_STEPS = 3, .*t5x has a checkpoint of step 20"):
        engine.train(run(), tmp_path)
    initial = tmp_path / "t5x" / "checkpoint_20"
    with pytest.raises(UserError, match=r"TRAIN_STEPS = 3, .*20 .* step 20.* CONTINUE_FROM"):
        engine.train(run(f"CONTINUE_FROM={initial}"), tmp_path / "new")
    with pytest.raises(UserError, match=r"expected one checkpoint .*checkpoint_20"):
        engine.train(run(f"CONTINUE_FROM={initial.parent}"), tmp_path / "new")


def test_predictions_follow_the_rows_and_missing_ones_are_an_error(tmp_path):
    folder = epath.Path(tmp_path)
    output = folder / "t5x"
    rows = cache.load_cache(run().run.data).rows["test"][:3]
    written = folder / "t5x" / "inference_eval"
    written.mkdir(parents=True)
    texts = [rows[0].label, "other", rows[2].label]
    lines = [json.dumps({"input": {"row": i}, "prediction": texts[i]}) for i in (2, 0, 1)]
    (written / "distill_x_label-000003.jsonl").write_text("\n".join(lines))
    found = t5x_run.read_predictions(output, 3, rows)
    assert [p.id for p in found] == [row.id for row in rows]
    assert [p.prediction for p in found] == texts
    assert [p.correct for p in found] == [True, False, True]
    anything = t5x_run.read_predictions(output, 3, rows, lambda prediction, gold: gold is not None)
    assert [p.correct for p in anything] == [True] * 3
    with pytest.raises(UserError, match="each of 2 test rows exactly once"):
        t5x_run.read_predictions(output, 3, rows[:2])
    with pytest.raises(UserError, match="got 0 prediction files"):
        t5x_run.read_predictions(output, 4, rows)
