"""The memory of this machine, and whether the state of a run fits into it."""

from __future__ import annotations

import pathlib

from distill.config.run import RunConfig
from distill.config.student import T5Config

GIB = 2**30
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


def parameter_bytes(student: T5Config) -> int:
    """Bytes of a student's float32 parameters, or of their gradients."""
    return 4 * parameter_count(student)


def moment_bytes(config: RunConfig) -> int:
    """Bytes of the optimizer's moments; Adafactor's are a row and a column of each matrix."""
    parameters = parameter_bytes(config.student)
    return parameters // 100 if config.optimizer.name == "adafactor" else 2 * parameters


def describe_shortage(config: RunConfig, available: float | None) -> str | None:
    """A warning if a run cannot fit into memory, whatever its batches.

    Args:
      config: the run.
      available: bytes that are free; None if that is not known.
    """
    needed = 2 * parameter_bytes(config.student) + moment_bytes(config)
    if available is None or needed <= available:
        return None
    return (
        f"warning: {parameter_count(config.student) / 1e6:,.0f} million parameters with their "
        f"gradients and {config.optimizer.name} need about {needed / GIB:,.1f} GiB, and "
        f"{available / GIB:,.1f} GiB are free: the system may kill the run; choose a smaller "
        "student (--size), or a machine with more memory"
    )
