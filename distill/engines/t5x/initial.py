"""INIT_FROM for T5X: initial parameters from a checkpoint of any kind. Needs t5x.

T5X's trainer makes a new state with a TrainStateInitializer, where the model directory holds no
checkpoint. The one here puts the parameters of INIT_FROM in place of the random ones; step and
optimizer stay new. T5X saves the state before its first step, so that a run that resumes does not
read INIT_FROM again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax.core import FrozenDict, freeze, unfreeze
from t5x import utils

from distill.config.student import T5Config

log = logging.getLogger(__name__)


def initializer(init_from: str, student: T5Config) -> Callable[..., utils.TrainStateInitializer]:
    """T5X's `train_state_initializer_cls`.

    Args:
      init_from: the macro INIT_FROM; "" for random parameters.
      student: the run's; T5X's network has its layers one by one, whatever SCAN_LAYERS says.
    """
    if not init_from:
        return utils.TrainStateInitializer
    student = dataclasses.replace(student, scan_layers=False)

    class FromCheckpoint(utils.TrainStateInitializer):
        """Initializes with the parameters of INIT_FROM."""

        def from_scratch(self, init_rng: jax.Array) -> Any:
            """A new state with these parameters, on the devices of T5X's partitioner."""
            state = super().from_scratch(init_rng)
            log.info("distill: parameters from %s", init_from)
            with _same_logging():
                from distill.convert import initial, sources

                source = sources.find_source("INIT_FROM", init_from)
                params = initial.start_params(source, student, unfreeze(state.params))
            is_frozen = isinstance(state.params, FrozenDict)
            return state.replace_params(freeze(params) if is_frozen else params)

    return FromCheckpoint


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    """Keeps what T5X logs: this project's readers of checkpoints quiet the logger that T5X uses."""
    absl = logging.getLogger("absl")
    level, filters = absl.level, list(absl.filters)
    try:
        yield
    finally:
        absl.setLevel(level)
        absl.filters[:] = filters
