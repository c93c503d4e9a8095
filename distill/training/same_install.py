"""Whether all hosts of a run have the same software, asked before any of them uses a device.

Hosts with another jaxlib or libtpu can hang in their first collective. So the versions are compared
over the coordination service of jax, which needs no device.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import distill
from distill.errors import UserError

PACKAGES = (
    "jax",
    "jaxlib",
    "libtpu",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorstore",
    "numpy",
    "seqio",
    "tensorflow",
    "tensorflow-text",
)
_MISSING = "not installed"
_KEY = "distill/installed"
_TIMEOUT = 60.0  # seconds; all hosts are connected already
_SHOWN = 3  # differences that are told


def installed() -> dict[str, str]:
    """Version of each thing that hosts must have in common, by its name."""
    by_name = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_name[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            by_name[name] = _MISSING
    by_name["distill"] = f"{distill.__version__} (source {source_digest()})"
    return by_name


def source_digest() -> str:
    """Digest of the Python files of distill that run, whether from a checkout or from a wheel."""
    root = pathlib.Path(distill.__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def check(timeout: float = _TIMEOUT) -> None:
    """Refuses hosts with different software; has to be called by all, after they are connected.

    Args:
      timeout: seconds to wait for the other hosts.

    Raises:
      UserError: names what differs and where; on every host, so that none waits for another.
    """
    from jax._src import distributed  # jax has no public way to its store

    state: Any = distributed.global_state
    if state.client is None or state.num_processes == 1:
        return
    state.client.key_value_set(f"{_KEY}/{state.process_id}", json.dumps(installed()))
    state.client.wait_at_barrier(_KEY, round(timeout * 1000))
    stored = {key.rpartition("/")[2]: text for key, text in state.client.key_value_dir_get(_KEY)}
    compare([json.loads(stored[str(process)]) for process in range(state.num_processes)])


def compare(by_process: Sequence[Mapping[str, str]]) -> None:
    """Refuses versions that differ.

    Args:
      by_process: `installed` of each process.

    Raises:
      UserError: names what differs and where.
    """
    first, differences = by_process[0], []
    for name in dict.fromkeys(name for versions in by_process for name in versions):
        expected = first.get(name, _MISSING)
        others: dict[str, list[int]] = {}
        for process, versions in enumerate(by_process):
            version = versions.get(name, _MISSING)
            if version != expected:
                others.setdefault(version, []).append(process)
        for version, processes in others.items():
            where = ", ".join(map(str, processes))
            differences.append(f"{name} is {expected} on process 0 and {version} on {where}")
    if differences:
        more = len(differences) - _SHOWN
        raise UserError(
            f"the hosts have different software: {'; '.join(differences[:_SHOWN])}"
            f"{f'; and {more} more' if more > 0 else ''}. Use one image, or run launch/install.sh "
            "from the same checkout on every host"
        )
