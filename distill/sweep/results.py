"""Results of many runs: groups of seeds, their mean and spread."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from distill.common.table import render_columns
from distill.results.record import Record


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
      name: what the table calls them.
      policy: of `tickets`.
      labels: label budget.
      accuracies: test accuracy of each seed.
      intervals: 95% Wilson interval of each.
      seeds: the seeds, in the same order.
      steps: optimizer steps.
      parameters: of the student.
      seconds: mean time of a run.
    """

    name: str
    policy: str
    labels: int
    accuracies: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    seeds: tuple[int, ...]
    steps: int
    parameters: int
    seconds: float

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds (0 for one seed)."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


def group(name: str, policy: str, records: Sequence[Record]) -> Group:
    """Puts the records of several seeds together.

    Args:
      name: what the table calls them.
      policy: of their tickets.
      records: of finished runs with a test score.

    Raises:
      ValueError: no records, or runs that differ in more than the seed.
    """
    keys = ("labels", "steps", "parameters", "method")
    if len({tuple(getattr(record, key) for key in keys) for record in records}) != 1:
        raise ValueError(f"{name}: expected runs that differ only in their seed, got {records}")
    first = records[0]
    return Group(
        name=name,
        policy=policy,
        labels=first.labels or 0,
        accuracies=tuple(record.accuracy or 0.0 for record in records),
        intervals=tuple(record.interval or (0.0, 1.0) for record in records),
        seeds=tuple(record.seed for record in records),
        steps=first.steps,
        parameters=first.parameters or 0,
        seconds=statistics.fmean(record.seconds for record in records),
    )


def results_table(groups: Sequence[Group]) -> str:
    """A text table, a row a group."""
    header = ("policy", "labels", "method", "accuracy", "seeds", "steps", "parameters", "s per run")
    rows = [
        (
            g.policy,
            str(g.labels),
            g.name,
            f"{g.mean:.3f} +- {g.spread:.3f}",
            str(len(g.seeds)),
            f"{g.steps:,}",
            f"{g.parameters:,}",
            f"{g.seconds:.0f}",
        )
        for g in groups
    ]
    return render_columns(header, rows, rule=True)
