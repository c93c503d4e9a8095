"""TrainConfig: steps, periods, batch and mesh of a native run."""

from __future__ import annotations

import dataclasses

from distill.errors import UserError, check_types, unknown

CHECKPOINTS = ("last", "best")
PARAMETER_SHARDINGS = ("replicated", "zero")
MOST_ROWS = 65_536  # of a batch
_BATCHES = ("batch_size", "eval_batch_size", "microbatches")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop, each set by the macro of the same name in capitals.

    Attributes:
      train_steps: optimizer steps of the whole run.
      batch_size: rows a step; with two tasks each row is a pair of sequences.
      seed: seeds initialization, dropout and the order of rows.
      eval_period: steps between evaluations on the validation rows, 0 for none.
      save_period: steps between checkpoints. The last step is always saved, and with checkpoint
        "best" every evaluation that is the best so far.
      log_period: steps between lines of metrics.
      keep_checkpoints: how many of the newest checkpoints stay; with checkpoint "best" that of
        the best evaluation stays too.
      eval_batch_size: rows a decoding batch.
      model_parallel: devices that share one copy of the parameters; the rest of
        the devices split the batch.
      microbatches: parts that a batch is computed in, one after the other.
      parameter_sharding: "replicated", or "zero": parameters and optimizer state are split
        over the devices that split the batch (`distill.training.mesh`).
      checkpoint: which checkpoint is scored on the test split and answers: "last", or
        "best", that of the evaluation with the highest validation accuracy (of equals,
        the latest).
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

    def __post_init__(self) -> None:
        check_types(self)
        if self.checkpoint not in CHECKPOINTS:
            raise unknown("checkpoint", self.checkpoint, CHECKPOINTS, "macro CHECKPOINT")
        if self.checkpoint == "best" and not self.eval_period:
            raise UserError(
                "got CHECKPOINT = 'best' with EVAL_PERIOD = 0, expected evaluations to choose "
                "from: set EVAL_PERIOD"
            )
        if self.parameter_sharding not in PARAMETER_SHARDINGS:
            raise unknown(
                "sharding",
                self.parameter_sharding,
                PARAMETER_SHARDINGS,
                "macro PARAMETER_SHARDING",
            )
        for field in dataclasses.fields(self):
            if field.type != "int":
                continue
            value = getattr(self, field.name)
            least = 0 if field.name in ("seed", "eval_period") else 1
            if value < least:
                raise UserError(
                    f"got {field.name.upper()} = {value!r}, expected a whole number from {least}"
                )
            if field.name in _BATCHES and value > MOST_ROWS:
                raise UserError(
                    f"got {field.name.upper()} = {value}, expected at most {MOST_ROWS:,}: the rows "
                    "of a batch are in memory at once"
                )
        for macro, period in (("SAVE_PERIOD", self.save_period), ("EVAL_PERIOD", self.eval_period)):
            if period % self.log_period and period < self.train_steps:
                raise UserError(
                    f"got {macro} = {period}, expected a multiple of LOG_PERIOD = "
                    f"{self.log_period}: a resumed run then logs the same lines"
                )
