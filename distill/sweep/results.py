"""Results of many runs: groups of seeds, their mean and spread."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from distill.common.table import render_columns


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

    def to_dict(self) -> dict[str, object]:
        """The fields with mean and spread, ready for JSON."""
        return dataclasses.asdict(self) | {"mean": self.mean, "spread": self.spread}


def group(name: str, results: Sequence[dict]) -> Group:
    """Puts the results.json of several seeds together.

    Raises:
      ValueError: no results, or runs that differ in more than the seed.
    """
    keys = ("policy", "labels", "steps", "parameters", "method")
    if len({tuple(result[key] for key in keys) for result in results}) != 1:
        raise ValueError(f"{name}: expected runs that differ only in their seed, got {results}")
    first = results[0]
    return Group(
        name=name,
        policy=first["policy"],
        labels=first["labels"],
        accuracies=tuple(result["accuracy"] for result in results),
        intervals=tuple(tuple(result["interval"]) for result in results),
        seeds=tuple(result["seed"] for result in results),
        steps=first["steps"],
        parameters=first["parameters"],
        seconds=statistics.fmean(result["seconds"] for result in results),
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
