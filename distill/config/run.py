"""RunConfig: everything a run is made of, as gin builds it for both engines."""

from __future__ import annotations

import dataclasses

from distill.config.data import DataSpec
from distill.config.optimizer import OptimizerConfig
from distill.config.student import T5Config
from distill.config.train import TrainConfig
from distill.config.weighting import Weighting
from distill.errors import UserError, check_types


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The parts of a run; `gin/engines/common.gin` binds each from its macros.

    Attributes:
      data: rows, tokens, budget.
      weighting: the objective.
      student: the network.
      optimizer: AdamW or Adafactor, and the schedule.
      train: steps, periods, batch, mesh.
      z_loss: weight of log(Z)^2 of each target token in the loss; T5 v1.1 used 0.0001 [Z_LOSS].
      init_from: checkpoint whose parameters a new run starts from, at step 0 and with a new
        optimizer: a Hugging Face folder, a T5X checkpoint or a run folder; '' for random
        parameters [INIT_FROM].
      continue_from: checkpoint whose parameters, optimizer state and step a new run starts from:
        a T5X checkpoint, or with the native engine also a run folder; '' for none
        [CONTINUE_FROM].

    Raises:
      UserError: parts that do not go together, naming the macros.
    """

    data: DataSpec
    weighting: Weighting
    student: T5Config
    optimizer: OptimizerConfig
    train: TrainConfig
    z_loss: float = 0.0
    init_from: str = ""
    continue_from: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        if self.init_from and self.continue_from:
            raise UserError(
                f"got both INIT_FROM = {self.init_from!r} and CONTINUE_FROM = "
                f"{self.continue_from!r}, expected one of them: INIT_FROM takes only parameters "
                "and starts at step 0, CONTINUE_FROM also takes the optimizer state and the step"
            )
        if not 0 <= self.z_loss < float("inf"):
            raise UserError(f"got Z_LOSS = {self.z_loss}, expected a number >= 0 (T5 v1.1: 0.0001)")
        self.weighting.task_weights(self.data.tasks)
        if self.data.method == "distill_labels" and self.data.label_source != "teacher":
            raise UserError(
                f"got LABEL_SOURCE = {self.data.label_source!r} with METHOD = 'distill_labels', "
                "expected 'teacher'; the method is defined by training on the teacher's labels"
            )
        source = self.data.rationale_source
        if source != "teacher" and not self.data.about_method.reads_rationales:
            raise UserError(
                f"got RATIONALE_SOURCE = {source!r} with METHOD = {self.data.method!r}, expected "
                "'teacher': the method reads no rationales"
            )
        if self.data.method == "finetune" and self.data.label_source != "gold":
            raise UserError(
                f"got LABEL_SOURCE = {self.data.label_source!r} with METHOD = 'finetune', expected "
                "'gold'; for the teacher's labels include gin/methods/distill_labels.gin"
            )

    @property
    def task_weights(self) -> tuple[float, ...]:
        """Weights of the tasks' losses, label first."""
        return self.weighting.task_weights(self.data.tasks)
