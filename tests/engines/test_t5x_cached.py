"""USE_CACHED = True: SeqIO's own cache of the run's tasks gives the rows that it replaces."""

from __future__ import annotations

import itertools
import pathlib
import sys

import pytest
import seqio
import tensorflow as tf
from seqio import test_utils

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_t5x import cache_dir, run  # noqa: F401  (a fixture of this file too)

from distill.engines.t5x import mixtures as t5x_mixtures
from distill.engines.t5x import seqio_cache
from distill.engines.t5x.check import check_t5x_run
from distill.errors import UserError
from tasks import mixtures


@pytest.fixture(autouse=True)
def cache_dirs():
    before = list(seqio.get_global_cache_dirs())
    yield
    seqio.set_global_cache_dirs(before)


def dataset(name, split="train", **more):
    provider = seqio.get_mixture_or_task(name)
    return provider.get_dataset(None, split, shuffle=True, seed=3, num_epochs=None, **more)


def some(rows):
    return list(itertools.islice(rows.as_numpy_iterator(), 90))  # more than an epoch


@pytest.mark.parametrize("scheme", ["mixture_rates", "paired_batches"])
def test_a_cached_run_reads_the_same_rows_in_the_same_order(scheme, monkeypatch):
    config = run(f"WEIGHTING={scheme}").run
    plain = some(dataset(mixtures.mixture(config.data, config.weighting)))
    tests = some(dataset(mixtures.label_task(config.data), "test"))
    name = mixtures.mixture(config.data, config.weighting, use_cached=True)
    label = mixtures.label_task(config.data, use_cached=True)

    def gone(*unused, **more):
        raise AssertionError("a cached task has its tokens already")

    monkeypatch.setattr(seqio.Task, "preprocess_precache", gone)
    test_utils.assert_dict_values_equal(some(dataset(name, use_cached=True)), plain)
    test_utils.assert_dict_values_equal(some(dataset(label, "test", use_cached=True)), tests)
    # Written once: what is there is used.
    assert mixtures.mixture(config.data, config.weighting, use_cached=True) == name
    assert len(set(seqio.get_global_cache_dirs())) == len(seqio.get_global_cache_dirs())


@pytest.mark.slow
def test_a_place_in_cached_rows_can_be_stored(tmp_path):
    """As T5X does in every checkpoint."""
    config = run("NUM_ROWS=1500", "NUM_LABELS=1400").run
    name = mixtures.mixture(config.data, config.weighting, use_cached=True)
    rows = iter(dataset(name, use_cached=True))
    for _ in range(3):
        next(rows)
    place = tf.train.Checkpoint(ds=rows).write(str(tmp_path / "place"))
    expected = [next(rows)["inputs"].numpy().tolist() for _ in range(1500)]
    again = iter(dataset(name, use_cached=True))
    tf.train.Checkpoint(ds=again).read(place).assert_consumed()
    assert [next(again)["inputs"].numpy().tolist() for _ in range(1500)] == expected


def test_a_cache_that_was_being_written_does_not_count(tmp_path, monkeypatch):
    data = run("SEED=1", "NUM_LABELS=20").run.data
    with monkeypatch.context() as patch:
        patch.setattr(seqio_cache, "provide", lambda *unused: None)
        name = mixtures.label_task(data, use_cached=True)
    with monkeypatch.context() as patch:
        patch.setattr(seqio, "dict_to_tfexample", lambda row: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seqio_cache.provide(name, t5x_mixtures._open(data).folder / "seqio")
    assert not seqio.TaskRegistry.get(name).cache_dir
    assert mixtures.label_task(data, use_cached=True) == name
    assert len(some(dataset(name, use_cached=True))) == 90


def test_the_macro_is_true_or_false():
    resolved = run("USE_CACHED=True")
    assert resolved.macros["USE_CACHED"] is True
    assert check_t5x_run(resolved.run, resolved.macros) == []
    resolved = run("USE_CACHED=yes")
    with pytest.raises(UserError, match="USE_CACHED = 'yes', expected True or False"):
        check_t5x_run(resolved.run, resolved.macros)
