"""The record of a finished run has what the run folder says, and what its data say."""

from __future__ import annotations

import json
import pathlib
import shutil
from types import SimpleNamespace

import pytest

from distill.common.text_files import read_json
from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.data.examples import Example
from distill.engines import training_time
from distill.engines.results import check_results
from distill.results.record import from_json
from distill.sweep import collect


@pytest.fixture
def job(run_dir, tmp_path, micro):
    shutil.copytree(run_dir, tmp_path / "runs" / "a")
    return collect.Job(
        run="a",
        axes={"labels": 60},
        seed=0,
        gin_files=("tickets_step_by_step",),
        overrides=micro,
        config_digest="0" * 64,
        sweep="s",
        attempt=2,
        out=str(tmp_path),
    )


def test_a_finished_run(job, resolved):
    results = check_results(read_json(f"{job.run_dir}/results.json"), "results.json")
    record = collect.done_record(job, resolved.run, results, collect.now())
    for name in ("accuracy", "n_test", "ranked_accuracy", "checkpoint_step", "parameters"):
        assert getattr(record, name) == results[name], name
    assert (record.train_rows, record.labels, record.attempt) == (54, 60, 2)
    assert record.teacher_accuracy == 1.0 and record.is_done
    log = pathlib.Path(job.run_dir) / "metrics.jsonl"
    lines = map(json.loads, log.read_text().splitlines())
    measured = [m["validation_accuracy"] for m in lines if "validation_accuracy" in m]
    assert record.validation_accuracy == measured[-1]
    assert from_json(json.loads(json.dumps(record.to_json())), "x") == record


def test_operations_are_counted_where_the_data_are(job, resolved):
    config = resolved.run
    cache = caches.open_cache(config.data)
    stream = BatchStream(cache, config.data, config.weighting, config.train.batch_size, 0)
    assert collect._train_flops(config, cache) == training_time.count_flops(config, stream)
    assert collect._train_flops(config, None) is collect._teacher_accuracy(config, None) is None


def test_the_teacher_is_wrong_where_it_has_no_label(resolved):
    def accuracy(*labels):
        rows = [Example(str(i), "x", gold, teacher) for i, (gold, teacher) in enumerate(labels)]
        cache = SimpleNamespace(rows={"train": [*rows, *rows], "validation": []})
        return collect._teacher_accuracy(resolved.run, cache)

    assert accuracy(("a", "a"), ("a", "b"), ("a", None), ("b", "b"), (None, "b")) == 0.5
    assert accuracy(("a", None), (None, "b")) is None


def test_a_failed_run_has_its_settings(job, resolved):
    record = collect.failed_record(job, resolved.run, "the loss is NaN", collect.now(), 2.04)
    assert (record.status, record.error, record.seconds) == ("failed", "the loss is NaN", 2.0)
    assert record.accuracy is None and record.parameters is None
    assert record.versions["distill"] and record.method == "step_by_step"
