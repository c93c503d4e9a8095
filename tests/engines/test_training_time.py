"""The least time of a run, which is told before its step is compiled."""

from __future__ import annotations

import pytest

from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.engines import native, training_time
from distill.preflight.count import Shapes, useful_flops


@pytest.fixture
def stream(resolved, run_dir):
    config = resolved.run
    cache = caches.open_cache(config.data)
    return BatchStream(cache, config.data, config.weighting, config.train.batch_size, 0)


@pytest.fixture
def speed(monkeypatch):
    """A function that sets the speed of this machine, in operations a second."""

    def set_speed(value):
        monkeypatch.setattr(training_time, "matmul_flops_per_second", lambda size, dtype: value)
        monkeypatch.setattr(training_time, "_FEW", 0.0)

    return set_speed


def test_operations_are_those_of_the_sequences_without_padding(resolved, stream):
    config = resolved.run
    expected = sum(
        useful_flops(config.student, Shapes(1, int(inputs), int(targets)))
        for step in range(config.train.train_steps)
        for inputs, targets in zip(*stream.lengths(step), strict=True)
    )
    assert training_time.count_flops(config, stream) == pytest.approx(expected)


def test_the_time_is_that_of_the_steps_that_are_left(resolved, stream, speed):
    config, steps = resolved.run, resolved.run.train.train_steps
    speed(training_time.count_flops(config, stream) / 7200)
    said = training_time.describe_least_time(config, stream, 0)
    assert said.startswith("training takes at least 2 h 0 min, ")
    said = training_time.describe_least_time(config, stream, steps // 2)
    assert said.startswith("training takes at least 60 min, ") and f": {steps // 2} steps" in said
    assert training_time.describe_least_time(config, stream, steps) is None


def test_nothing_is_told_of_a_short_run(resolved, stream, speed, monkeypatch):
    speed(training_time.count_flops(resolved.run, stream) / 59)
    assert training_time.describe_least_time(resolved.run, stream, 0) is None
    monkeypatch.undo()
    monkeypatch.setattr(training_time, "matmul_flops_per_second", pytest.fail)
    assert training_time.describe_least_time(resolved.run, stream, 0) is None


def test_it_is_told_before_the_step_is_compiled(resolved, stream, speed, tmp_path, monkeypatch):
    speed(1.0)

    class Trains(Exception):
        pass

    def fit(*_):
        raise Trains

    said = []
    monkeypatch.setattr(native, "fit", fit)
    with pytest.raises(Trains):
        native.train(resolved, tmp_path / "run", progress=said.append)
    assert said[-1].startswith("training takes at least ")
