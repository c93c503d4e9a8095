"""Whether the state of a run fits into the memory of this machine."""

import pytest

import tasks  # registers the datasets  # noqa: F401
from distill.config.resolve import resolve
from distill.engines import native
from distill.preflight import host_memory
from distill.student.params import param_count

TINY = [f"{name}={size}" for name, size in {"EMBED_DIM": 16, "HEAD_DIM": 8, "NUM_HEADS": 2}.items()]


@pytest.fixture
def config():
    return resolve(["tickets_step_by_step"], [*TINY, "OPTIMIZER='adamw'"], "native").run


def test_parameters_are_counted_without_jax(config):
    exact = param_count(config.student)
    assert host_memory.parameter_count(config.student) == pytest.approx(exact, rel=0.05)


def test_a_run_that_fits_has_no_warning(config):
    needed = 16 * host_memory.parameter_count(config.student)
    assert host_memory.describe_shortage(config, needed) is None
    assert host_memory.describe_shortage(config, None) is None
    assert "the system may kill the run" in host_memory.describe_shortage(config, needed - 1)


def test_adafactor_needs_half_the_memory(config):
    adafactor = resolve(["tickets_step_by_step"], [*TINY, "OPTIMIZER='adafactor'"], "native").run
    needed = 9 * host_memory.parameter_count(config.student)
    assert host_memory.describe_shortage(adafactor, needed) is None
    assert host_memory.describe_shortage(config, needed) is not None


def test_train_warns_of_a_student_that_is_too_large(monkeypatch, tmp_path):
    class Trains(Exception):
        pass

    def start(*_):
        raise Trains

    said = []
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 1000.0)
    monkeypatch.setattr(native, "_train", start)
    resolved = resolve(["tickets_step_by_step"], TINY, "native")
    with pytest.raises(Trains):
        native.train(resolved, tmp_path / "run", progress=said.append)
    assert "0.0 GiB are free: the system may kill the run" in said[-1]
