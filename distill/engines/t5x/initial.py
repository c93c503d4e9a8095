"""INIT_FROM for T5X: initial parameters from a checkpoint of any kind. Needs t5x.

T5X's trainer makes a new state with a TrainStateInitializer, where the model directory holds no
checkpoint. The one here puts the parameters of INIT_FROM in place of the random ones; step and
optimizer stay new. T5X saves the state before its first step, so that a run that resumes does not
read INIT_FROM again.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
from flax.core import FrozenDict, freeze, unfreeze
from t5x import utils

from distill.config.student import T5Config
from distill.convert import initial, sources

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
            source = sources.find_source("INIT_FROM", init_from)
            log.info("distill: parameters from %s", source.folder)
            is_frozen = isinstance(state.params, FrozenDict)
            params = initial.start_params(source, student, unfreeze(state.params))
            return state.replace_params(freeze(params) if is_frozen else params)

    return FromCheckpoint
