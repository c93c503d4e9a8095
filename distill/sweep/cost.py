"""How much work a run is, and how long the rest of a sweep may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill.config.run import RunConfig
from distill.preflight.count import Shapes, useful_flops
from distill.results.record import Record
from distill.sweep.plan import Run


def cost(config: RunConfig) -> float:
    """Operations of a run whose sequences all have their full length: more than it needs."""
    data, train = config.data, config.train
    shapes = Shapes(1, data.input_length, data.target_length)
    row = useful_flops(config.student, shapes) * len(data.tasks)
    return row * train.batch_size * train.train_steps


def longest_first(runs: Sequence[Run]) -> list[Run]:
    """The runs by their work, so that no core idles at the end; equal ones keep their order."""
    return sorted(runs, key=lambda run: -cost(run.resolved.run))


def estimate_seconds(
    runs: Sequence[Run], records: Mapping[str, Record], workers: int
) -> float | None:
    """How long the runs without a finished record take.

    The measured runs say how many seconds an operation takes, and a run that none is like may be
    off by a factor.

    Args:
      runs: of the plan.
      records: last record of each run that has one.
      workers: runs side by side.

    Returns:
      Seconds; None as long as no run of the plan is finished.
    """
    done = [run for run in runs if run.id in records and records[run.id].is_done]
    left = [run for run in runs if run not in done]
    work = sum(cost(run.resolved.run) for run in done)
    if not work:
        return None
    rate = sum(records[run.id].seconds for run in done) / work
    seconds = [cost(run.resolved.run) * rate for run in left]
    return max(sum(seconds) / workers, max(seconds, default=0.0))
