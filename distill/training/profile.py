"""Where the time of a run goes: `distill train --profile`.

A `Profile` divides the time of the thread that trains into parts without a gap: `lap` ends a part.
Steps are dispatched to the devices and not waited for, so the devices' own time shows as the time
that this thread waits for them (`settle`), wherever it needs their results. A run whose input is
too slow waits for batches instead.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import jax
from etils import epath

# Parts, in the order of the table.
PREPARING = "preparing (data, parameters)"
COMPILATION = "steps that compile"
INPUT = "waiting for batches"
PLACING = "copying batches to the device"
DISPATCH = "starting steps"
DEVICE = "waiting for the device"
METRICS = "metrics"
EVALUATION = "evaluation"
CHECKPOINTS = "checkpoints"
OTHER = "other"
PARTS = (
    *(PREPARING, COMPILATION, INPUT, PLACING, DISPATCH),
    *(DEVICE, METRICS, EVALUATION, CHECKPOINTS, OTHER),
)

TIMED_STEPS, TRACED_STEPS = 10, 5
COUNTED_STEPS = 256  # whose tokens and shapes are counted

Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # of a batch, by name


class Profile:
    """Measures a run of `fit`.

    Attributes:
      seconds: by part.
      first_step: the first step of this process, None before it.
      last_step: the newest one.
      shapes: of the batches of the first COUNTED_STEPS steps, by step.
      step_seconds: of steps that were waited for, from their start to their end: TIMED_STEPS after
        the first one, apart from those that compile.
      folder: of the trace.
    """

    def __init__(self, folder: epath.Path) -> None:
        """Starts the clock.

        Args:
          folder: where the trace of a few steps goes.
        """
        self.folder = folder
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self.first_step: int | None = None
        self.last_step = 0
        self.shapes: dict[int, Shapes] = {}
        self.step_seconds: list[float] = []
        self._last = self._placed = time.monotonic()
        self._compiles = self._tracing = False

    def lap(self, part: str) -> None:
        """Counts the time since the last call to a part."""
        now = time.monotonic()
        self.seconds[part] += now - self._last
        self._last = now
        if part == PLACING:
            self._placed, self._compiles = now, False
        elif part == COMPILATION:
            self._compiles = True

    def settle(self, arrays: object) -> None:
        """Waits until the devices have computed these arrays; the wait counts as theirs."""
        self.lap(OTHER)
        jax.block_until_ready(arrays)
        self.lap(DEVICE)

    def after(self, step: int, batch: Mapping[str, jax.Array], metrics: object) -> None:
        """Notes a step that has been started, and times or traces the first ones.

        Args:
          step: its number.
          batch: what it was computed on.
          metrics: what it gives.
        """
        if self.first_step is None:
            self.first_step = step
        self.last_step, done = step, step - self.first_step
        if done < COUNTED_STEPS:
            self.shapes[step] = tuple((name, batch[name].shape) for name in sorted(batch))
        if done <= TIMED_STEPS and not self._compiles:
            self.settle(metrics)
            self.step_seconds.append(self._last - self._placed)
        if done == TIMED_STEPS:
            jax.profiler.start_trace(str(self.folder))
            self._tracing = True
        elif done == TIMED_STEPS + TRACED_STEPS:
            self.settle(metrics)
            self.close()

    def close(self) -> None:
        """Ends the trace, if one was begun."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            self.lap(OTHER)

    @property
    def steps(self) -> int:
        """Steps of this process."""
        return 0 if self.first_step is None else self.last_step - self.first_step + 1

    @property
    def step_alone(self) -> float | None:
        """Median seconds of a step that is waited for; None if there was none."""
        return statistics.median(self.step_seconds) if self.step_seconds else None


class NoProfile(Profile):
    """Measures nothing, and costs nothing."""

    def __init__(self) -> None:
        """Starts no clock."""

    def lap(self, part: str) -> None:
        """Does nothing."""

    def settle(self, arrays: object) -> None:
        """Does nothing: nothing is waited for."""

    def after(self, step: int, batch: Mapping[str, jax.Array], metrics: object) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
