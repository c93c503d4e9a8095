"""TrainConfig: steps, periods, batch and mesh of a native run."""

from __future__ import annotations

import dataclasses

from distill.errors import UserError, check_types, unknown

CHECKPOINTS = ("last", "best")
PARAMETER_SHARDINGS = ("replicated", "zero")
LAYOUTS = ("auto", "packed", "flat")
MOST_ROWS = 65_536  # of a batch
_BATCHES = ("batch_size", "eval_batch_size", "microbatches")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop, each set by the macro of the same name in capitals.

    Attributes:
      train_steps: optimizer steps of the whole run.
      batch_size: rows per step; with two tasks a row is a pair of sequences.
      seed: seed of initialization, dropout and row order.
      eval_period: steps between evaluations on the validation rows; 0 turns them off.
      save_period: steps between checkpoints. The last step is always saved; with CHECKPOINT =
        'best' every new best evaluation is saved too.
      log_period: steps between lines of metrics. EVAL_PERIOD and SAVE_PERIOD are multiples of it.
      keep_checkpoints: number of newest checkpoints to keep; with CHECKPOINT = 'best' the best one
        is kept too.
      eval_batch_size: rows per decoding batch.
      model_parallel: devices that share one copy of the parameters; the batch is split over the
        rest.
      microbatches: parts of a batch that are computed one after the other. With flat batches on one
        CPU, 1 stands for as many as suit it; see `distill.data.batching.flat_parts`.
      checkpoint: checkpoint that is scored on the test split and used by predict: the last one, or
        the one with the highest validation accuracy (one of CHECKPOINTS), the latest if several
        are equal.
      parameter_sharding: 'zero' splits parameters and optimizer state over the devices that split
        the batch (one of PARAMETER_SHARDINGS); see
        `distill.training.mesh`.
      layout: how the sequences of a batch lie in memory (one of LAYOUTS): in packed rows, or flat,
        which computes on less padding but cannot be split over devices. 'auto' is flat on one CPU
        or GPU, else packed; see `distill.training.layouts`.
    """

    train_steps: int
    batch_size: int
    seed: int = 0
    eval_period: int = 250
    save_period: int = 500
    log_period: int = 50
    keep_checkpoints: int = 1
    eval_batch_size: int = 128
    model_parallel: int = 1
    microbatches: int = 1
    checkpoint: str = "last"
    parameter_sharding: str = "replicated"
    layout: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        if self.checkpoint not in CHECKPOINTS:
            raise unknown("checkpoint", self.checkpoint, CHECKPOINTS, "macro CHECKPOINT")
        if self.checkpoint == "best" and not self.eval_period:
            raise UserError(
                "got CHECKPOINT = 'best' with EVAL_PERIOD = 0, expected EVAL_PERIOD > 0: "
                "evaluations choose the best checkpoint"
            )
        if self.parameter_sharding not in PARAMETER_SHARDINGS:
            raise unknown(
                "sharding",
                self.parameter_sharding,
                PARAMETER_SHARDINGS,
                "macro PARAMETER_SHARDING",
            )
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS, "macro LAYOUT")
        for field in dataclasses.fields(self):
            if field.type != "int":
                continue
            value = getattr(self, field.name)
            least = 0 if field.name in ("seed", "eval_period") else 1
            if value < least:
                raise UserError(
                    f"got {field.name.upper()} = {value!r}, expected an integer >= {least}"
                )
            if field.name in _BATCHES and value > MOST_ROWS:
                raise UserError(
                    f"got {field.name.upper()} = {value}, expected at most {MOST_ROWS:,}: all rows "
                    "of a batch are in memory at once"
                )
        for macro, period in (("SAVE_PERIOD", self.save_period), ("EVAL_PERIOD", self.eval_period)):
            if period % self.log_period and period < self.train_steps:
                raise UserError(
                    f"got {macro} = {period}, expected a multiple of LOG_PERIOD = "
                    f"{self.log_period}, so that a resumed run logs the same lines"
                )
