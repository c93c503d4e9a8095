"""How many runs fit side by side into the memory that is free."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from distill.config.run import RunConfig
from distill.preflight.count import Shapes
from distill.preflight.estimate import State, estimate
from distill.preflight.host_memory import GIB, available_bytes, moment_bytes, parameter_bytes

_BASE = 1.0 * GIB  # a process with jax, TensorFlow and a compiled program


def run_bytes(config: RunConfig) -> float:
    """Estimated memory of a run's process: the model of `distill preflight`, and the programs."""
    parameters, moments = parameter_bytes(config.student), moment_bytes(config)
    rows = config.train.batch_size * len(config.data.tasks)
    shapes = Shapes(rows, config.data.input_length, config.data.target_length)
    modeled = estimate(config, State(parameters, moments, 0), (1, 1), shapes)
    return _BASE + modeled.peak_bytes + parameters  # a checkpoint is copied before it is written


def has_accelerator() -> bool:
    """Whether jax would use a GPU or TPU, as far as the device files say without asking jax."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    return bool(glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/accel[0-9]*"))


def worker_count(cores: int, configs: Iterable[RunConfig]) -> tuple[int, str]:
    """The default number of runs side by side.

    Args:
      cores: of this process.
      configs: of the runs, at least one; the run that needs the most memory decides.

    Returns:
      The number, at least 1, and what limits it.
    """
    configs = list(configs)
    if has_accelerator():
        return 1, "one accelerator for all"
    count, limit = min((cores, "one a core"), (len(configs), "one a run"))
    needed = max(map(run_bytes, configs))
    available = available_bytes()
    if available is not None and available < count * needed:
        count = max(1, int(available / needed))
        limit = f"about {needed / GIB:.1f} GiB each, {available / GIB:.1f} GiB free"
    return max(1, count), limit
