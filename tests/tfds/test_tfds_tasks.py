"""The SeqIO tasks of tasks/tfds.py on data that `distill data build` has built."""

from __future__ import annotations

import importlib
import json
import pathlib
import subprocess
import sys

import pytest
import seqio
import tensorflow as tf
from seqio import test_utils

from distill.data import preprocessors
from distill.tfds.build import build_dataset

DUMMY = pathlib.Path(__file__).parent / "tfds_dummy"
LENGTHS = {"inputs": 96, "targets": 64}
RAW = {
    "row": 4,
    "input": "does it fit",
    "label": "yes",
    "teacher_label": "no",
    "rationale": "too small",
    "failure": "",
    "choices": ["yes", "no"],
    "split": "train",
    "id": "a",
}


@pytest.fixture(scope="module")
def tasks(shared_dir):
    """The module, its tasks with T5's vocabulary from disk."""
    with pytest.MonkeyPatch.context() as patch:
        model = shared_dir / "data" / "vocab" / "cc_all.32000.100extra.model"
        patch.setenv("DISTILL_VOCABULARY_PATH", str(model))
        for name in list(seqio.TaskRegistry.names()):
            if name.startswith("distill_") and "tasks.tfds" in sys.modules:
                seqio.TaskRegistry.remove(name)
        sys.modules.pop("tasks.tfds", None)
        yield importlib.import_module("tasks.tfds")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Built data; SeqIO and TFDS look here, as with --tfds_data_dir."""
    folder = tmp_path_factory.mktemp("tfds")
    for name in ("esnli", "svamp"):
        build_dataset(name, folder, raw_dir=str(DUMMY))
    build_dataset("tickets", folder, tickets={"policy": "hard"})
    build_dataset("jsonl", folder, raw_dir=str(DUMMY / "jsonl"), name="mine")
    seqio.set_tfds_data_dir_override(str(folder))
    yield folder
    seqio.set_tfds_data_dir_override(None)


@pytest.fixture
def decoding(monkeypatch):
    """Lets `seqio.test_utils.test_task` (0.0.20) work with a vocabulary of texts.

    It passes the ids of the target where `test_postprocessing` wants predicted texts.
    """
    check = test_utils.test_postprocessing

    def with_text(name, raw, predict_output, **more):
        vocabulary = seqio.TaskRegistry.get(name).output_features["targets"].vocabulary
        text = vocabulary.decode(predict_output.tolist())
        return check(name, raw, predict_output=[text], **more)

    monkeypatch.setattr(test_utils, "test_postprocessing", with_text)


def expect(row, inputs, targets):
    assert row["inputs_pretokenized"].decode() == inputs
    assert row["targets_pretokenized"].decode() == targets
    assert row["targets"][-1] == 1 and row["inputs"][-1] == 1


@pytest.mark.parametrize(
    ("dataset", "answer"),
    [
        ("esnli", "neutral"),
        ("anli1", "entailment"),
        ("cqa", "lake shore"),
        ("svamp", "( 84.0 / 2.0 )"),
        ("asdiv", "9"),
        ("tickets_natural", "repair"),
        ("tickets_hard", "refuse"),
    ],
)
def test_seqio_checks_each_dataset(tasks, decoding, dataset, answer):
    raw = {"validation": RAW | {"label": answer}}
    row, scores = test_utils.test_task(f"distill_{dataset}_label", raw)
    expect(row, "[label] does it fit", answer)
    assert (scores["n"], scores["accuracy"]) == (1, 1)
    rationale = test_utils.test_preprocessing_single(f"distill_{dataset}_rationale", raw)
    expect(rationale, "[rationale] does it fit", "too small")


def test_the_teacher_may_be_the_source(tasks, decoding):
    row, scores = test_utils.test_task("distill_cqa_teacher_label", {"validation": RAW})
    expect(row, "[label] does it fit", "no")
    assert scores["accuracy"] == 1


def test_tests_are_scored_by_gold_labels_and_rows_without_a_part_are_left_out(tasks):
    name = "distill_cqa_teacher_label"
    row = test_utils.test_preprocessing_single(name, {"test": RAW | {"split": "test"}})
    assert row["targets_pretokenized"] == b"yes"
    for task, absent in (("teacher_label", "teacher_label"), ("rationale", "rationale")):
        rows = test_utils.test_preprocessing(f"distill_cqa_{task}", {"train": RAW | {absent: ""}})
        assert not list(rows)


def test_equations_count_by_value(tasks):
    metric = seqio.TaskRegistry.get("distill_svamp_label").metric_fns[0]
    assert metric(["( 3.0 * 4.0 )"], ["(6 + 6)"])["accuracy"] == 1


def rows(name, split, **more):
    dataset = seqio.TaskRegistry.get(name).get_dataset(LENGTHS, split, shuffle=False, **more)
    return sorted(dataset.as_numpy_iterator(), key=lambda row: row["row"])


def cached_rows(name, split, cache_dir):
    before = seqio.get_global_cache_dirs()
    seqio.set_global_cache_dirs([str(cache_dir)])
    try:
        return rows(name, split, use_cached=True)
    finally:
        seqio.set_global_cache_dirs(before)


def test_built_data_feed_the_tasks(tasks, data_dir):
    texts = [row["targets_pretokenized"] for row in rows("distill_esnli_label", "validation")]
    assert texts == [b"entailment", b"contradiction"]
    assert len(rows("distill_esnli_rationale", "train")) == 2  # one completion has no answer
    assert [r["row"] for r in rows("distill_esnli_teacher_label", "train")] == [0, 1]
    task = seqio.TaskRegistry.get("distill_tickets_hard_label")
    assert [task.num_input_examples(s) for s in ("train", "validation", "test")] == [
        1800,
        200,
        1000,
    ]
    parts = [{r["row"] for r in rows(task.name, split)} for split in ("train", "validation")]
    assert parts[0] | parts[1] == set(range(2000)) and not parts[0] & parts[1]


def test_ones_own_rows(tasks, data_dir):
    names = tasks.register_tfds_tasks("mine", "distill_jsonl/mine:1.0.0")
    try:
        assert names[0] == "distill_mine_label"
        labels = [row["targets_pretokenized"] for row in rows(names[0], "train")]
        assert labels == [b"shipping", b"other"]
    finally:
        for name in names:
            seqio.TaskRegistry.remove(name)


def test_a_cache_of_seqio_serves_the_tokens(tasks, data_dir, tmp_path, monkeypatch):
    """What seqio_cache_tasks does, without Beam: shard by shard, up to the placeholder."""
    name = "distill_tickets_hard_rationale"
    plain = rows(name, "validation")
    task = seqio.TaskRegistry.get(name)
    assert task.supports_caching
    folder = tmp_path / seqio.get_task_dir_from_name(name)
    folder.mkdir(parents=True)
    shards = task.source.list_shards("validation")
    with tf.io.TFRecordWriter(f"{folder}/validation.tfrecord-00000-of-00001") as file:
        for index in range(len(shards)):
            shard = seqio.ShardInfo(index, len(shards))
            data = task.source.get_dataset("validation", shuffle=False, shard_info=shard)
            found = task.preprocess_precache(data)
            kinds = found.element_spec
            for row in found:
                file.write(seqio.dict_to_tfexample(row).SerializeToString())
    features = {n: {"dtype": s.dtype.name, "shape": list(s.shape)} for n, s in kinds.items()}
    info = {"num_shards": 1, "features": features, "seqio_version": seqio.__version__}
    (folder / "info.validation.json").write_text(json.dumps(info))
    (folder / "stats.validation.json").write_text(json.dumps({"examples": len(plain)}))
    (folder / "COMPLETED").write_text("")

    def gone(*unused):
        raise AssertionError("a cached task has its text already")

    monkeypatch.setattr(preprocessors, "_task", gone)
    test_utils.assert_dict_values_equal(cached_rows(name, "validation", tmp_path), plain)


def test_seqio_cache_tasks_by_beam(tasks, data_dir, tmp_path):
    """The pipeline itself."""
    pytest.importorskip("apache_beam", reason="needs the package apache-beam[tfrecord]")
    name = "distill_esnli_rationale"
    command = [
        sys.executable,
        "-m",
        "seqio.scripts.cache_tasks_main",
        f"--tasks={name}",
        f"--output_cache_dir={tmp_path}",
        "--module_import=tasks.tfds",
        f"--tfds_data_dir={data_dir}",
        "--min_shards=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    plain = rows(name, "train")
    test_utils.assert_dict_values_equal(cached_rows(name, "train", tmp_path), plain)
