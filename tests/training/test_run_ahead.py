"""Steps are started before earlier ones have ended, but only a few."""

import contextlib

from distill.training import loop
from distill.training.profile import NoProfile


class Pending:
    """Metrics that know when they were waited for."""

    def __init__(self, step, waited):
        self.step, self.waited = step, waited

    def block_until_ready(self):
        self.waited.append(self.step)
        return self


class Watch:
    paused = staticmethod(contextlib.nullcontext)


class Trainer:
    """Starts steps and never waits."""

    def __init__(self):
        self.waited = []

    def is_compiled_for(self, batch):
        return True

    def train_step(self, state, batch):
        return state + 1, {"loss": Pending(state + 1, self.waited)}


def test_no_more_than_a_few_steps_are_under_way():
    trainer = Trainer()
    steps = loop._Steps(trainer, print, NoProfile(), Watch)
    steps._first_steps = type("Told", (), {"after": lambda self, step, metrics: None})()
    state = 0
    for step in range(1, 21):
        state, _ = steps.take(step, state, {})
        assert step - max(trainer.waited, default=0) <= loop.AHEAD
    assert trainer.waited == list(range(1, 21 - loop.AHEAD))
