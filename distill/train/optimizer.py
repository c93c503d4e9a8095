"""AdamW with clipping and a schedule, built from optax for both engines."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from distill.errors import UserError, unknown

if TYPE_CHECKING:
    import optax

SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW's settings; each is set by the macro in brackets.

    Attributes:
      learning_rate: peak learning rate [LEARNING_RATE].
      warmup_steps: steps of linear warm-up from 0 [WARMUP_STEPS].
      total_steps: step at which the cosine reaches 0 [TRAIN_STEPS].
      schedule: what follows the warm-up, one of SCHEDULES [SCHEDULE].
      b1, b2: decay of the first and second moment [ADAM_B1, ADAM_B2].
      weight_decay: decoupled decay, on all parameters [WEIGHT_DECAY].
      clip_norm: largest global gradient norm, 0 for none [CLIP_NORM].
    """

    learning_rate: float
    warmup_steps: int
    total_steps: int
    schedule: str = "cosine"
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES, "macro SCHEDULE")
        if not self.learning_rate > 0:
            raise UserError(f"got LEARNING_RATE = {self.learning_rate}, expected more than 0")
        if not 0 <= self.warmup_steps < self.total_steps:
            raise UserError(
                f"got WARMUP_STEPS = {self.warmup_steps}, expected 0 or more and fewer than "
                f"TRAIN_STEPS = {self.total_steps}"
            )
        for macro, value in (("ADAM_B1", self.b1), ("ADAM_B2", self.b2)):
            if not 0 <= value < 1:
                raise UserError(f"got {macro} = {value}, expected [0, 1)")
        for macro, value in (("WEIGHT_DECAY", self.weight_decay), ("CLIP_NORM", self.clip_norm)):
            if value < 0:
                raise UserError(f"got {macro} = {value}, expected 0 or more")


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate as a function of the step: linear warm-up, then `schedule`."""
    import optax

    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=config.learning_rate,
            warmup_steps=config.warmup_steps,
            decay_steps=config.total_steps,
        )
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, max(config.warmup_steps, 1)),
            optax.constant_schedule(config.learning_rate),
        ],
        [config.warmup_steps],
    )


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optax transformation: clip by global norm, then AdamW."""
    import optax

    adamw = optax.adamw(
        make_schedule(config), b1=config.b1, b2=config.b2, weight_decay=config.weight_decay
    )
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
    return adamw
