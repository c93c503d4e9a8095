"""OptimizerConfig: the rule, the schedule of its rate, clipping and decay."""

from __future__ import annotations

import dataclasses

from distill.errors import UserError, check_types, unknown

OPTIMIZERS = ("adamw", "adafactor")
SCHEDULES = ("cosine", "constant", "linear", "rsqrt")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer's settings; each is set by the macro in brackets.

    Attributes:
      learning_rate: peak learning rate; with SCHEDULE = 'rsqrt' the numerator of the rate
        [LEARNING_RATE].
      warmup_steps: steps of linear warm-up from 0, fewer than TRAIN_STEPS; with SCHEDULE = 'rsqrt'
        steps of constant rate [WARMUP_STEPS].
      total_steps: step at which the schedules 'cosine' and 'linear' reach 0 [TRAIN_STEPS].
      schedule: course of the rate after the warm-up (one of SCHEDULES) [SCHEDULE].
      b1: decay rate of AdamW's first moment [ADAM_B1].
      b2: decay rate of AdamW's second moment [ADAM_B2].
      weight_decay: decoupled weight decay of all parameters, multiplied by the rate [WEIGHT_DECAY].
      clip_norm: largest global gradient norm; 0 turns clipping off [CLIP_NORM].
      name: update rule (one of OPTIMIZERS) [OPTIMIZER].

    Raises:
      UserError: a value outside its range, naming its macro.
    """

    learning_rate: float
    total_steps: int
    warmup_steps: int = 100
    schedule: str = "cosine"
    b1: float = 0.9
    b2: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    name: str = "adamw"

    def __post_init__(self) -> None:
        macros = {
            "b1": "ADAM_B1",
            "b2": "ADAM_B2",
            "total_steps": "TRAIN_STEPS",
            "name": "OPTIMIZER",
        }
        check_types(self, macros)
        if self.name not in OPTIMIZERS:
            raise unknown("optimizer", self.name, OPTIMIZERS, "macro OPTIMIZER")
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES, "macro SCHEDULE")
        if not self.learning_rate > 0:
            raise UserError(f"got LEARNING_RATE = {self.learning_rate}, expected more than 0")
        for macro, steps, least in (
            ("TRAIN_STEPS", self.total_steps, 1),
            ("WARMUP_STEPS", self.warmup_steps, 0),
        ):
            if steps < least:
                raise UserError(f"got {macro} = {steps}, expected {least} or more")
        if self.warmup_steps >= self.total_steps:
            raise UserError(
                f"got TRAIN_STEPS = {self.total_steps} with WARMUP_STEPS = {self.warmup_steps}, "
                "expected TRAIN_STEPS > WARMUP_STEPS: raise TRAIN_STEPS or lower WARMUP_STEPS"
            )
        for macro, value in (("ADAM_B1", self.b1), ("ADAM_B2", self.b2)):
            if not 0 <= value < 1:
                raise UserError(f"got {macro} = {value}, expected a number >= 0 and < 1")
        for macro, value in (("WEIGHT_DECAY", self.weight_decay), ("CLIP_NORM", self.clip_norm)):
            if value < 0:
                raise UserError(f"got {macro} = {value}, expected 0 or more")
