"""Stock T5X on TFDS data that `distill data build` has built, through gin/engines/t5x_tfds.gin."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import seqio
from etils import epath

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from parity import needs_t5x
from test_t5x import SMALL

from distill.config import files
from distill.config.resolve import read_macros, resolve
from distill.errors import UserError
from distill.tfds.build import build_dataset

# Its data are files, which nothing here may ask for.
EXPERIMENT = "gin/experiments/svamp_mini_step_by_step.gin"
SETTINGS = [
    *SMALL,
    *("TFDS_TASKS='mine'", "VOCABULARY='bytes'", "VOCAB_SIZE=384", "OPTIMIZER='adamw'"),
    *("INPUT_LENGTH=32", "TARGET_LENGTH=24", "NORMALIZATION='per_sequence'", "MICROBATCHES=2"),
    *("LABEL_WEIGHT=0.3", "RATIONALE_WEIGHT=0.7", "CHECKPOINT='best'", "EVAL_PERIOD=2"),
]
MODULE = """
import seqio
from tasks import tfds
tfds.register_tfds_tasks("mine", "distill_jsonl/mine:1.0.0", vocabulary=seqio.ByteVocabulary())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Built data, a module that registers tasks on it, and a gin file that imports it."""
    folder = tmp_path_factory.mktemp("tfds")
    (folder / "rows").mkdir()
    for split, number in (("train", 40), ("validation", 8), ("test", 10)):
        rows = [
            {
                "input": f"is {i} odd",
                "label": "yes" if i % 2 else "no",
                "rationale": f"it ends in {i}",
            }
            for i in range(number)
        ]
        lines = "\n".join(map(json.dumps, rows))
        (folder / "rows" / f"{split}.jsonl").write_text(lines)
    build_dataset("jsonl", folder / "data", raw_dir=str(folder / "rows"), name="mine")
    (folder / "mytasks.py").write_text(MODULE)
    (folder / "mine.gin").write_text("import mytasks\n")
    return folder


def train(folder: pathlib.Path, output: str, *more: str) -> tuple[str, pathlib.Path]:
    """T5X's own training script: its log, and the folder of its model."""
    log = script(folder, "t5x.train", f"--gin.MODEL_DIR={str(folder / output)!r}", *more)
    return log, folder / output


def script(folder: pathlib.Path, name: str, *more: str, engine: str = "t5x") -> str:
    """One of T5X's own scripts: the end of its log."""
    gin_files = [f"gin/engines/{engine}.gin", EXPERIMENT, "gin/engines/t5x_tfds.gin"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", name, f"--gin_search_paths={files.gin_root()}"),
            *(f"--gin_file={path}" for path in [*gin_files, str(folder / "mine.gin")]),
            *(f"--gin.{binding}" for binding in SETTINGS),
            *(f"--tfds_data_dir={folder / 'data'}", *more),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"},
    )
    return done.stderr[-20000:]


@needs_t5x
@pytest.mark.t5x
def test_stock_t5x_trains_and_decodes_built_data(folder):
    log, output = train(folder, "plain")
    assert (output / "checkpoint_3").is_dir(), log
    losses = re.findall(
        r"collection=train .* loss=([\d.]+), loss_label=([\d.]+), .*"
        r"loss_rationale=([\d.]+)",
        log,
    )
    loss, label, rationale = map(float, losses[-1])
    assert 0.3 * label + 0.7 * rationale == pytest.approx(loss, rel=1e-5)
    (metrics,) = (output / "inference_eval").glob("distill_mine_label-metrics.jsonl")
    scores = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [score["step"] for score in scores][-2:] == [2, 3]
    (answers,) = (output / "inference_eval").glob("distill_mine_label-000003.jsonl")
    assert len(answers.read_text().splitlines()) == 8  # the validation split
    # Decoding the test split with a checkpoint is T5X's other script.
    tested = [
        f"--gin.CHECKPOINT_PATH={str(output / 'checkpoint_3')!r}",
        f"--gin.EVAL_OUTPUT_DIR={str(folder / 'tested')!r}",
    ]
    log = script(folder, "t5x.eval", *tested, engine="t5x_evaluate")
    found = list((folder / "tested" / "inference_eval").glob("distill_mine_label-*.jsonl"))
    assert len([path for path in found if "metrics" not in path.name]) == 1, log
    (answers,) = (path for path in found if "metrics" not in path.name)
    assert len(answers.read_text().splitlines()) == 10


@needs_t5x
@pytest.mark.t5x
def test_a_cache_is_read_in_place_of_the_data(folder, tmp_path, monkeypatch):
    from distill.engines.t5x import seqio_cache

    monkeypatch.syspath_prepend(str(folder))
    known, caches = list(seqio.get_global_cache_dirs()), epath.Path(tmp_path / "caches")
    seqio.set_tfds_data_dir_override(str(folder / "data"))
    try:
        importlib.import_module("mytasks")
        for task in ("label", "rationale"):
            seqio_cache.provide(f"distill_mine_{task}", caches)
    finally:
        seqio.set_global_cache_dirs(known)
        seqio.set_tfds_data_dir_override(None)
    # What is left of the data says splits and features, but holds no rows.
    rows = shutil.ignore_patterns("*.tfrecord*")
    shutil.copytree(folder / "data", tmp_path / "data", ignore=rows)
    cached = "--gin.USE_CACHED=True", f"--seqio_additional_cache_dirs={caches}"
    log, output = train(folder, "cached", f"--tfds_data_dir={tmp_path / 'data'}", *cached)
    assert (output / "checkpoint_3").is_dir(), log
    (answers,) = (output / "inference_eval").glob("distill_mine_label-000003.jsonl")
    assert len(answers.read_text().splitlines()) == 8


def config(*overrides: str):
    """A configuration whose data nobody opens."""
    elsewhere = ("TFDS_TASKS", "NUM_ROWS", "NUM_TEST")  # macros of other files
    plain = [text for text in SETTINGS if not text.startswith(elsewhere)]
    return resolve([EXPERIMENT], [*plain, *overrides], "t5x").run


def test_rows_are_drawn_and_weighed_by_the_loss_weights(folder):
    from distill.engines.t5x import tfds_mixtures
    from tasks import tfds

    run = config()
    spec, weighting = run.data, run.weighting
    seqio.set_tfds_data_dir_override(str(folder / "data"))
    try:
        tfds.register_tfds_tasks(
            "odd", "distill_jsonl/mine:1.0.0", vocabulary=seqio.ByteVocabulary()
        )
        name = tfds_mixtures.mixture("odd", spec, weighting)
        assert tfds_mixtures.mixture("odd", spec, weighting) == name
        lengths = {"inputs": 32, "targets": 24}
        converter = tfds_mixtures.feature_converter(spec, weighting)(pack=False)
        rows = seqio.get_dataset(name, lengths, converter, "train", num_epochs=None, seed=1)
        rows = list(rows.take(1000).as_numpy_iterator())
    finally:
        seqio.set_tfds_data_dir_override(None)
    words = seqio.ByteVocabulary()
    is_label = [
        words.decode(row["encoder_input_tokens"].tolist()).startswith("[label]") for row in rows
    ]
    assert np.mean(is_label) == pytest.approx(0.3, abs=0.06)  # four standard deviations
    assert [int(row["decoder_task_ids"].max()) for row in rows] == [int(not x) for x in is_label]
    np.testing.assert_allclose([row["decoder_loss_weights"].sum() for row in rows], 1, rtol=1e-6)
    assert tfds_mixtures.vocabulary("odd", spec) == words
    single = config(
        "METHOD=distill_labels", "LABEL_SOURCE=teacher", "LABEL_WEIGHT=1.0", "RATIONALE_WEIGHT=0.0"
    )
    drawn = tfds_mixtures.mixture("odd", single.data, single.weighting)
    (task,) = seqio.get_mixture_or_task(drawn).tasks
    assert task.name == tfds_mixtures.label_task("odd", single.data) == "distill_odd_teacher_label"


def test_a_batch_is_a_row_a_sequence():
    from distill.engines.t5x import tfds_mixtures
    from tasks import tfds  # registers the released data  # noqa: F401

    run = config()
    assert tfds_mixtures.batch_rows(run.data, run.weighting, 15, multiple=8) == 32
    single = config("METHOD=finetune", "LABEL_WEIGHT=1.0", "RATIONALE_WEIGHT=0.0")
    rows = tfds_mixtures.batch_rows(single.data, single.weighting, 15)
    assert rows == 15
    assert tfds_mixtures.loss_normalizing_factor(rows) == 15.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("NORMALIZATION=per_token", "NORMALIZATION = 'per_token' with TFDS tasks, expected 'per_s"),
        (
            "WEIGHTING=paired_batches",
            "WEIGHTING = 'paired_batches' with TFDS tasks, expected 'mixture_rates'",
        ),
        ("METHOD=single_task", "METHOD = 'single_task' with TFDS tasks, expected 'finetune' or"),
        ("METHOD=answer_first", "METHOD = 'answer_first' with TFDS tasks, expected 'finetune' or"),
    ],
)
def test_what_it_does_not_have_is_refused(override, message):
    from distill.engines.t5x import tfds_mixtures
    from tasks import tfds  # registers the released data  # noqa: F401

    more = ["LABEL_WEIGHT=1.0", "RATIONALE_WEIGHT=0.0"] if "single" in override else []
    run = config(override, *more)
    for function in (
        lambda *given: tfds_mixtures.mixture("svamp", *given),
        tfds_mixtures.feature_converter,
        lambda *given: tfds_mixtures.batch_rows(*given, 16),
    ):
        with pytest.raises(UserError, match=message):
            function(run.data, run.weighting)


def test_packing_and_unknown_tasks_are_refused():
    from distill.engines.t5x import tfds_mixtures
    from tasks import tfds  # registers the released data  # noqa: F401

    run = config()
    with pytest.raises(UserError, match="PACK = True with TFDS tasks, expected False"):
        tfds_mixtures.batch_rows(run.data, run.weighting, 16, pack=True)
    with pytest.raises(UserError, match=r"unknown data set 'svam'.*TFDS_TASKS.*closest: svamp"):
        tfds_mixtures.mixture("svam", run.data, run.weighting)


def test_distill_train_does_not_take_files_of_the_engines():
    with pytest.raises(UserError, match=r"t5x_tfds\.gin, which is for T5X's own scripts"):
        read_macros([EXPERIMENT, "gin/engines/t5x_tfds.gin"])
