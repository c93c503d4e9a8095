"""A signal whose exception Python drops still stops the run; the message says what is saved."""

import gc
import os
import signal
import sys

import numpy as np
import pytest

from distill import cli
from distill.common.safe_points import safe_point
from distill.engines import native
from distill.errors import Stopped
from distill.inference.closed_set import ClosedSets, Ranking
from distill.training import loop, quiet
from distill.training.signals import stop_on_signals


def _lose_a_signal(number: int = signal.SIGTERM) -> None:
    """As if it came while the garbage collector runs jax's callback."""

    def callback(phase: str, info: dict) -> None:
        if phase == "start":
            gc.callbacks.remove(callback)
            os.kill(os.getpid(), number)

    gc.callbacks.append(callback)
    gc.collect()


@pytest.fixture(autouse=True)
def lost(monkeypatch) -> list[BaseException]:
    """What Python drops."""
    dropped: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: dropped.append(found.exc_value))
    return dropped


def test_the_next_safe_point_stops(lost):
    with pytest.raises(Stopped), stop_on_signals():
        safe_point()
        _lose_a_signal()
        assert [type(error) for error in lost] == [Stopped]
        safe_point()
    safe_point()  # nobody asks any more


def test_training_does_not_begin():
    with stop_on_signals() as stop:
        _lose_a_signal()
        with pytest.raises(Stopped), stop.held():
            pytest.fail("trains")


def test_a_phase_that_lost_a_signal_stops_at_its_end():
    with stop_on_signals() as stop, stop.held():
        with pytest.raises(Stopped), stop.released():
            _lose_a_signal()
        safe_point()  # held: the step's end asks
        assert stop.number == signal.SIGTERM


def _train(settings, folder) -> int:
    flags = [f"--gin.{text}" for text in settings]
    return cli.main(["train", "--gin_file=tickets_step_by_step", f"--run_dir={folder}", *flags])


@pytest.mark.slow
def test_a_run_that_lost_a_signal_stops_at_the_next_batch(micro, tmp_path, monkeypatch, capsys):
    batches = []

    def rank(sets, params, tokens_BxI, choices):
        batches.append(len(tokens_BxI))
        _lose_a_signal()
        return [Ranking(np.zeros(len(labels)), None) for labels in choices]

    monkeypatch.setattr(ClosedSets, "__call__", rank)
    # Six validation rows: three batches.
    assert _train((*micro, "EVAL_BATCH_SIZE=2"), tmp_path / "run") == 143
    assert batches == [2]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "distill: stopped by SIGTERM: step 6 is saved; the same command resumes there"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (lambda *_: signal.raise_signal(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (_interrupt, 130, "interrupted"),
    ],
)
def test_without_a_checkpoint_the_message_says_that_nothing_is_saved(
    raised, code, said, micro, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(native, "load_data", raised)
    assert _train(micro, tmp_path / "run") == code
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"distill: {said}: nothing is saved yet; the same command starts again"]


def test_ctrl_c_says_where_the_run_resumes(micro, run_dir, tmp_path, monkeypatch, capsys):
    train_step = loop.Trainer.train_step

    def interrupted(trainer, state, batch):
        if int(state.step) == 6:
            raise KeyboardInterrupt
        return train_step(trainer, state, batch)

    monkeypatch.setattr(loop.Trainer, "train_step", interrupted)
    assert _train(micro, tmp_path / "run") == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "distill: interrupted: step 4 is saved; the same command resumes there"
    assert not any("Traceback" in line for line in said)


def test_a_signal_that_python_drops_is_not_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr(quiet, "_earlier_hooks", [])
    quiet.quiet_checkpoint_errors()
    with pytest.raises(Stopped), stop_on_signals() as stop:
        _lose_a_signal()
        stop.check()
    assert capsys.readouterr().err == ""
