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

import pytest
import seqio
from etils import epath

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from parity import needs_t5x
from test_t5x import EXPERIMENT, SMALL

from distill.config import files
from distill.data.build import build
from distill.errors import UserError

SETTINGS = [
    *SMALL,
    *("TFDS_TASKS='mine'", "VOCABULARY='bytes'", "VOCAB_SIZE=384"),
    *("INPUT_LENGTH=32", "TARGET_LENGTH=24", "CHECKPOINT='last'"),
]
MODULE = """
import seqio
from tasks import tfds
tfds.register("mine", "distill_jsonl/mine:1.0.0", vocabulary=seqio.ByteVocabulary())
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
    build("jsonl", folder / "data", raw_dir=str(folder / "rows"), name="mine")
    (folder / "mytasks.py").write_text(MODULE)
    (folder / "mine.gin").write_text("import mytasks\n")
    return folder


def train(folder: pathlib.Path, output: str, *more: str) -> tuple[str, pathlib.Path]:
    """T5X's own training script: its log, and the folder of its model."""
    gin_files = ["gin/engines/t5x.gin", EXPERIMENT, "gin/engines/t5x_tfds.gin"]
    bindings = [*SETTINGS, f"MODEL_DIR={str(folder / output)!r}"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "t5x.train", f"--gin_search_paths={files.gin_root()}"),
            *(f"--gin_file={path}" for path in [*gin_files, str(folder / "mine.gin")]),
            *(f"--gin.{binding}" for binding in bindings),
            *(f"--tfds_data_dir={folder / 'data'}", *more),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    return done.stderr[-20000:], folder / output


@needs_t5x
@pytest.mark.t5x
def test_stock_t5x_trains_and_decodes_built_data(folder):
    log, output = train(folder, "plain")
    assert (output / "checkpoint_3").is_dir(), log
    assert re.search(r"loss=\d", log)
    (metrics,) = (output / "inference_eval").glob("distill_mine_label-metrics.jsonl")
    scores = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert scores[-1]["step"] == 3 and 0 <= scores[-1]["accuracy"] <= 1
    (answers,) = (output / "inference_eval").glob("distill_mine_label-000003.jsonl")
    assert len(answers.read_text().splitlines()) == 10


@needs_t5x
@pytest.mark.t5x
def test_a_cache_is_read_in_place_of_the_data(folder, tmp_path, monkeypatch):
    from distill.data import seqio_cache

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
    assert len(answers.read_text().splitlines()) == 10


def test_the_mixture_draws_at_the_rates_of_the_weights(folder):
    from tasks import tfds

    seqio.set_tfds_data_dir_override(str(folder / "data"))
    try:
        tfds.register("odd", "distill_jsonl/mine:1.0.0", vocabulary=seqio.ByteVocabulary())
        drawn = seqio.get_mixture_or_task(tfds.mixture("odd", 0.2, 0.8))
        assert tfds.mixture("odd", 0.2, 0.8) == drawn.name
        rows = drawn.get_dataset({"inputs": 32, "targets": 24}, "train", num_epochs=None, seed=1)
        words = tfds.seqio.ByteVocabulary()
        texts = [
            words.decode(row["inputs"].tolist()) for row in rows.take(1000).as_numpy_iterator()
        ]
    finally:
        seqio.set_tfds_data_dir_override(None)
    share = sum(text.startswith("[label]") for text in texts) / 1000
    assert share == pytest.approx(0.2, abs=0.05)  # four standard deviations
    single = seqio.get_mixture_or_task(tfds.mixture("odd", 1.0, 0.0, "teacher"))
    assert [task.name for task in single.tasks] == ["distill_odd_teacher_label"]


def test_what_it_does_not_have_is_refused():
    from tasks import tfds

    assert tfds.sequences(16, "per_sequence") == 32
    with pytest.raises(UserError, match="NORMALIZATION = 'per_token', expected 'per_sequence'"):
        tfds.sequences(16, "per_token")
    with pytest.raises(UserError, match=r"unknown data set 'svam'.*TFDS_TASKS.*closest: svamp, "):
        tfds.mixture("svam", 0.5, 0.5)
    with pytest.raises(UserError, match=r"unknown label source 'llm'.*LABEL_SOURCE"):
        tfds.label_task("svamp", "llm")
