"""Command-line flags of the embedded tickets, and the rows that they ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.common.flags import check_bounds, flag

if TYPE_CHECKING:
    from distill.data.examples import Example


@dataclasses.dataclass(frozen=True)
class TicketFlags:
    """Which tickets are generated where no rows are named."""

    policy: str = flag("natural", "labeling rule: natural or hard")
    rows: int = flag(2000, "number of tickets", least=1)
    seed: int = flag(0, "seed of the ticket generator", least=0)
    teacher_accuracy: float = flag(1.0, "accuracy of the simulated teacher", least=0, most=1)

    def __post_init__(self) -> None:
        check_bounds(self)

    def generate(self, split: str) -> list[Example]:
        """Tickets with gold labels.

        Raises:
          UserError: an unknown policy.
        """
        from distill.tickets import generator  # loads numpy

        generator.policy(self.policy, "--policy")
        return generator.generate(self.policy, self.rows, self.seed, split)

    def annotate(self, rows: Sequence[Example]) -> list[Example]:
        """The tickets with what the simulated teacher says about them."""
        from distill.tickets import teacher

        return teacher.annotate(rows, self.policy, self.teacher_accuracy, self.seed)


@dataclasses.dataclass(frozen=True)
class BuildFlags(TicketFlags):
    """The tickets of a TFDS dataset: those to train on, and a test set."""

    test_rows: int = flag(1000, "number of test tickets", least=1)

    def settings(self) -> dict[str, object]:
        """The fields of `TicketsConfig`, the TFDS builder's configuration."""
        return {
            "policy": self.policy,
            "num_rows": self.rows,
            "num_test": self.test_rows,
            "teacher_accuracy": self.teacher_accuracy,
            "seed": self.seed,
        }
