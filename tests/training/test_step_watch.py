"""A run whose steps stop is ended; one that compiles or evaluates is not."""

import time

import pytest

from distill.training import step_watch
from distill.training.step_watch import StepWatch


@pytest.fixture
def ends(monkeypatch):
    messages = []
    monkeypatch.setattr(step_watch, "end_process", messages.append)
    return messages


def test_a_step_that_hangs_ends_the_process(ends):
    deadline = time.monotonic() + 10
    with StepWatch(0.2, lambda: 7):
        while not ends and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "no step has finished for 0.2 s, the last was step 7" in ends[0]


def test_steps_that_finish_are_left_alone(ends):
    began = time.monotonic()
    with StepWatch(0.4, lambda: int((time.monotonic() - began) / 0.1)):
        time.sleep(1.0)
    assert not ends


def test_what_is_done_in_a_pause_does_not_count(ends):
    with StepWatch(1.0, lambda: 7) as watch, watch.paused():
        with watch.paused():
            time.sleep(0.8)
        time.sleep(0.8)
    assert not ends


def test_without_a_limit_nothing_is_watched(ends):
    with StepWatch(0, lambda: 7):
        time.sleep(0.3)
    assert not ends
