"""The least time that training can take, told before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.common.matmul import SIZES, matmul_flops_per_second
from distill.common.progress import format_duration
from distill.config.run import RunConfig
from distill.data.batching.batches import BatchStream
from distill.preflight.count import Shapes, useful_flops

_COUNTED_STEPS = 50  # of a run, whose operations are counted
_WORTH_TELLING = 60.0  # seconds
# Operations that a slow CPU, of 50 GFLOP/s, does in that time: with fewer, nothing is measured.
_FEW = 50e9 * _WORTH_TELLING


def count_flops(config: RunConfig, stream: BatchStream) -> float:
    """Operations of the matrix products of all training steps, without padding.

    Args:
      config: of the run.
      stream: its batches. The lengths of the sequences are those of the first steps.
    """
    steps = config.train.train_steps
    counted = min(_COUNTED_STEPS, steps)
    total = 0.0
    for step in range(counted):
        lengths: Sequence[Any] = stream.lengths(step)
        for inputs, targets in zip(*lengths, strict=True):
            total += useful_flops(config.student, Shapes(1, int(inputs), int(targets)))
    return total / counted * steps


def describe_least_time(config: RunConfig, stream: BatchStream, done: int) -> str | None:
    """A line about the least time of the steps that are left, on one CPU.

    The speed of the processor is measured, which takes about a second.

    Args:
      config: of the run.
      stream: its batches.
      done: steps that an earlier process has taken.

    Returns:
      The line; None for a run of less than about a minute.
    """
    left = config.train.train_steps - done
    flops = count_flops(config, stream) / config.train.train_steps * left
    if flops < _FEW:
        return None
    speed = matmul_flops_per_second(SIZES["cpu"], "float32")
    if flops / speed < _WORTH_TELLING:
        return None
    return (
        f"training takes at least {format_duration(flops / speed)}, and perhaps three times as "
        f"long: {left:,} steps are {flops / 1e12:,.0f} TFLOP of matrix products, and this machine "
        f"does {speed / 1e9:,.0f} GFLOP/s now"
    )
