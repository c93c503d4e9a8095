"""Which processes the environment says belong together: TPU slices, Slurm, Open MPI.

jax finds the same, but does not say what it has found before it waits for the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping

from distill.common import metadata
from distill.errors import UserError

# jax used this port on TPUs until 0.8.0, and firewall rules of TPU networks were written for it.
TPU_PORT = 8476
_EPHEMERAL, _PORTS = 61440, 4096  # jobs that share a machine get ports of their own
_START = "start the same command with --distributed on each of them"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process stands among others.

    Attributes:
      source: where it was found, such as "Slurm", for messages.
      host: address of process 0.
      port: where process 0 listens unless a flag says otherwise.
      count: the number of processes.
      index: which of them this is, from 0.
      names: of the hosts, by index of their process, as far as they are known.
      is_tpu: whether the processes share a TPU slice, which none of them can use alone.
    """

    source: str
    host: str
    port: int
    count: int
    index: int
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    is_tpu: bool = False


def detect() -> Place | None:
    """The place of this process; None if the environment names no others.

    Raises:
      UserError: the environment contradicts itself.
    """
    try:
        return _open_mpi() or _slurm() or _tpu_environment() or _tpu_metadata()
    except (KeyError, ValueError) as error:
        raise UserError(
            f"could not tell which process of the run this is ({type(error).__name__}: {error}): "
            "give --coordinator_address, --num_processes and --process_id"
        ) from error


def check_index(index: int, count: int) -> None:
    """Refuses an index of a process that is out of range.

    Args:
      index: value of `--process_id`.
      count: value of `--num_processes`.

    Raises:
      UserError: it is, or there are no processes.
    """
    if not 0 <= index < count:
        raise UserError(
            f"got --process_id={index} and --num_processes={count}, expected a --process_id from 0 "
            f"to {max(count, 1) - 1} and at least one process"
        )


def check_not_alone() -> str | None:
    """For a process that was not told to join others.

    Returns:
      A note for the user, or None.

    Raises:
      UserError: it is one of the hosts of a TPU slice. jax would wait for the others.
    """
    place = detect()
    if place is None or place.count == 1:
        return None
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if place.is_tpu and platforms and "tpu" not in platforms:
        return None
    if place.is_tpu:
        raise UserError(
            f"this is host {place.index} of the {place.count} hosts of a TPU slice "
            f"({place.source}), and it was started alone: {_START}"
        )
    return (
        f"{place.source} started {place.count} processes, and this one works alone: to join them, "
        f"{_START}"
    )


def _open_mpi() -> Place | None:
    uri = os.environ.get("OMPI_MCA_orte_hnp_uri")  # noqa: SIM112  # its name
    if uri is None:
        return None
    address = re.search(r"tcp://(.+?)[,:]|tcp6://\[(.+?)[,\]]", uri)
    if address is None:
        raise ValueError(f"OMPI_MCA_orte_hnp_uri is {uri!r}")
    job = int(uri.partition(".")[0]) // _PORTS
    return Place(
        "Open MPI",
        address[1] or address[2],
        _EPHEMERAL + job % _PORTS,
        int(os.environ["OMPI_COMM_WORLD_SIZE"]),
        int(os.environ["OMPI_COMM_WORLD_RANK"]),
    )


def _slurm() -> Place | None:
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")
    if not all(name in os.environ for name in names):
        return None
    nodes = os.environ["SLURM_STEP_NODELIST"]
    first = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    if first is None:
        raise ValueError(f"SLURM_STEP_NODELIST is {nodes!r}")
    return Place(
        "Slurm",
        first[1] + (first[2] or ""),
        _EPHEMERAL + int(os.environ["SLURM_JOB_ID"]) % _PORTS,
        int(os.environ["SLURM_NTASKS"]),
        int(os.environ["SLURM_PROCID"]),
    )


def _tpu_environment() -> Place | None:
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        workers = [text for text in os.environ.get(name, "").split(",") if text]
        if workers:
            several = len(workers) > 1 or int(os.environ.get("MEGASCALE_NUM_SLICES") or 1) > 1
            index = int(os.environ["TPU_WORKER_ID"]) if several else 0
            return _tpu(f"TPU slice, {name}", workers, index, os.environ)
    return None


def _tpu_metadata() -> Place | None:
    if os.environ.get("TPU_SKIP_MDS_QUERY") or not (_has_tpu() and metadata.is_compute_engine()):
        return None
    with contextlib.suppress(OSError):
        index = metadata.read("attributes/agent-worker-number")
        workers = metadata.read("attributes/worker-network-endpoints")
        if index is None or workers is None:
            return None
        settings = {}
        for line in (metadata.read("attributes/tpu-env") or "").splitlines():
            key, _, value = line.partition(":")
            settings[key.strip()] = value.strip().strip("'")
        # name:id:address, or just the address
        hosts = [text.split(":")[-1] for text in workers.split(",")]
        return _tpu("TPU slice, metadata server", hosts, int(index), {**settings, **os.environ})
    return None


def _tpu(source: str, workers: list[str], index: int, settings: Mapping[str, str]) -> Place:
    slices = int(settings.get("MEGASCALE_NUM_SLICES") or 1)
    begin = int(settings.get("MEGASCALE_SLICE_ID") or 0) * len(workers)
    coordinator = settings.get("MEGASCALE_COORDINATOR_ADDRESS") or workers[0]
    names = {begin + i: name.partition(":")[0] for i, name in enumerate(workers)}
    return Place(
        source,
        coordinator.partition(":")[0],
        TPU_PORT,
        slices * len(workers),
        begin + index,
        names,
        is_tpu=True,
    )


def _has_tpu() -> bool:
    devices = pathlib.Path("/dev")
    return any(devices.glob("accel*")) or any(devices.glob("vfio/[0-9]*"))
