"""A student whose answers differ from row to row."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import jax
import pytest

from distill.data.examples import Example
from distill.inference.load import LoadedRun, load_run
from distill.student.params import init_params


@pytest.fixture(scope="session")
def run(run_dir) -> LoadedRun:
    """The micro run with random parameters: one of twelve steps gives one answer to all rows."""
    loaded = load_run(run_dir)
    params = init_params(loaded.config.student, jax.random.key(1))
    return dataclasses.replace(loaded, params=params)


@pytest.fixture(scope="session")
def texts(run) -> list[str]:
    """Inputs of one to sixty words."""
    draw = random.Random(0)
    return [" ".join(draw.choices(run.assets.words, k=draw.randint(1, 60))) for _ in range(24)]


@pytest.fixture(scope="session")
def answers_of(texts) -> Callable[[LoadedRun], list[str]]:
    """What the student of a run answers to the texts, as `distill predict` does."""

    def answers(run: LoadedRun) -> list[str]:
        rows = [Example(id=str(index), input=text) for index, text in enumerate(texts)]
        return [row.prediction for row in run.evaluator().texts(run.params, rows)]

    return answers
