"""How many runs fit side by side: free memory, and what a run needs."""

from __future__ import annotations

import glob
import os
import pathlib
from collections.abc import Iterable

from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.preflight.count import Shapes
from distill.preflight.estimate import State, estimate

GIB = 2**30
_BASE = 1.0 * GIB  # a process with jax, TensorFlow and a compiled program
_CGROUPS = (  # limit and use of the container, of either version of the kernel's interface
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_bytes(root: str = "") -> float | None:
    """Memory that processes could take now, within the limit of the container; None if unknown.

    Args:
      root: in front of the kernel's files, for tests.
    """
    found = []
    try:
        for line in pathlib.Path(f"{root}/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024.0 * int(line.split()[1]))
    except (OSError, ValueError, IndexError):
        pass
    for limit, used in _CGROUPS:
        try:
            texts = [pathlib.Path(f"{root}{path}").read_text().strip() for path in (limit, used)]
            found.append(max(0.0, float(texts[0]) - float(texts[1])))  # "max": no limit
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def parameter_count(student: T5Config) -> int:
    """About how many parameters a student has: its products and embeddings, without jax."""
    d, j, f = student.embed_dim, student.joined_dim, student.mlp_dim
    mlp = (len(student.mlp_activations) + 1) * d * f
    layers = student.num_encoder_layers * (4 * d * j + mlp)
    layers += student.num_decoder_layers * (8 * d * j + mlp)
    return layers + student.vocab_size * d * (1 if student.tie_embeddings else 2)


def run_bytes(config: RunConfig) -> float:
    """Estimated memory of a run's process: the model of `distill preflight`, and the programs."""
    parameters = 4 * parameter_count(config.student)
    moments = parameters // 100 if config.optimizer.name == "adafactor" else 2 * parameters
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
