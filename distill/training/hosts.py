"""Several hosts as one run: on a pod every host starts the same `distill train --distributed`.

All hosts compute the same metrics and predictions. The first one alone writes the run folder and
shows progress; checkpoints are written by all, each its own shards (Orbax). So the run folder has
to be one that every host sees, on gs:// or a network disk. Raw data and the tokenized cache may be
each host's own; their digests are compared before the first step.

Of a run on one host every function here is free of charge.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import socket
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from etils import epath

from distill.common import cluster
from distill.common.progress import Say, to_stderr
from distill.errors import UserError
from distill.training import same_install
from distill.training.peers import Peers
from distill.training.rendezvous import meet

START_TIMEOUT = 600.0  # seconds; machines of a large slice do not boot at the same time
_GIVEN = "--coordinator_address, --num_processes and --process_id"
_peers: Peers | None = None  # the connections, once `connect` has made them


def connect(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    coordinator_port: int | None = None,
    start_timeout: float = START_TIMEOUT,
    say: Say = to_stderr,
) -> None:
    """Joins the other hosts; has to come before anything that asks jax for its devices.

    Args:
      coordinator_address: host:port of the first host; None finds the others, as is possible on
        Cloud TPU, GKE, Slurm and Open MPI.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      coordinator_port: where the first host listens; None takes the port of the address, or that
        of `cluster.detect`.
      start_timeout: seconds to wait for the others.
      say: takes lines about hosts that are missing.

    Raises:
      UserError: some of the first three are given and others are not; the processes contradict each
        other; jax cannot connect them; they have other versions of the software.
      HostMissing: a host did not come in time; names it.
    """
    global _peers
    is_given = [value is not None for value in (coordinator_address, num_processes, process_id)]
    if any(is_given) and not all(is_given):
        raise UserError(
            f"{_GIVEN} must be given together: give all three, or none to detect the hosts"
        )
    if not 0 < start_timeout < math.inf:
        raise UserError(f"got --start_timeout={start_timeout}, expected seconds above 0")
    if coordinator_port is not None and not 0 < coordinator_port < 1 << 16:
        raise UserError(f"got --coordinator_port={coordinator_port}, expected 1 to 65535")
    place = _given(coordinator_address, num_processes, process_id, coordinator_port)
    place = place or cluster.detect()
    if place is None:
        raise UserError(
            "could not connect the hosts of the run: found neither a TPU slice nor Slurm nor Open "
            f"MPI; elsewhere, give {_GIVEN}"
        )
    if place.count == 1:
        return
    port = coordinator_port or place.port
    address = place.host.removeprefix("[").removesuffix("]"), port
    links = meet(address, place.count, place.index, start_timeout, say, place.names)
    _peers = Peers(links, relays=place.index == 0)
    # Signals are this project's own affair, and Orbax would count its steps in between.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            f"{place.host}:{port}",
            place.count,
            place.index,
            initialization_timeout=math.ceil(start_timeout),
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"could not connect the hosts of the run: {reason}") from error
    same_install.check()


def connections() -> Peers | None:
    """The connections to the other hosts; None on one host."""
    return _peers


def _given(
    address: str | None, count: int | None, index: int | None, port: int | None
) -> cluster.Place | None:
    """The place that flags give, all three or none of them."""
    if address is None or count is None or index is None:
        return None
    cluster.check_index(index, count)
    host, _, own = address.rpartition(":")
    if not own.isdigit() and port is not None and ":" not in address:
        host, own = address, str(port)  # the address of a host, and the port apart
    if not host or not own.isdigit():
        raise UserError(
            f"got --coordinator_address={address}, expected host:port of the process with "
            "--process_id=0"
        )
    if port is not None and int(own) != port:
        raise UserError(
            f"got --coordinator_address={address} and --coordinator_port={port}: give the port once"
        )
    return cluster.Place("flags", host, int(own), count, index)


def is_host0() -> bool:
    """Whether this process writes the run folder."""
    return jax.process_index() == 0


def index_and_count() -> tuple[int, int]:
    """Index of this process, from 0, and the number of processes."""
    return jax.process_index(), jax.process_count()


def check_connected() -> None:
    """Refuses a slice of several hosts whose processes were not joined.

    Raises:
      UserError: says how to start.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            f"these devices belong to {jax.process_count()} hosts: start the same command with "
            "--distributed on each host"
        )


@contextlib.contextmanager
def barrier(action: str) -> Iterator[None]:
    """Waits at its end for all hosts; if one failed, all end, instead of waiting for it.

    Args:
      action: what is done within, for the message.

    Raises:
      UserError: another host failed. This one's own error goes through.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        error = raised
    failed = np.flatnonzero(_gather(np.asarray(error is not None)))
    if error is not None:
        raise error
    if failed.size:
        hosts = ", ".join(map(str, failed))
        raise UserError(
            f"{action} failed on process {hosts}, whose output says why; this process stops too"
        )


def broadcast_from_host0(answer: float) -> float:
    """The first host's answer (a number or a truth value), on all of them.

    What decides whether all write a checkpoint is not read by each from a disk that may be late.
    """
    first: float = _gather(np.asarray(answer))[0].item()
    return first


def check_same_on_hosts(values: Mapping[str, str]) -> None:
    """Refuses hosts that are about to do different things.

    Args:
      values: what has to be equal everywhere, by name.

    Raises:
      UserError: names what differs, and where.
    """
    digests_V = [hashlib.sha256(text.encode()).hexdigest() for text in values.values()]
    everywhere_PxV = _gather(np.array(digests_V))
    for name, digests_P in zip(values, everywhere_PxV.T, strict=True):
        others = np.flatnonzero(digests_P != digests_P[0])
        if others.size:
            where = ", ".join(map(str, others))
            raise UserError(
                f"{name} of process {where} differs from that of process 0: give every host the "
                "same command, data, vocabulary and checkout"
            )


def check_shared(folder: epath.Path, name: str) -> None:
    """Refuses a run folder that not all hosts see; the first has written `name` into it.

    Raises:
      UserError: names the hosts that do not see it.
    """
    blind = np.flatnonzero(~_gather(np.asarray((folder / name).exists())))
    if blind.size:
        where = ", ".join(map(str, blind))
        raise UserError(
            f"process {where} does not see {folder / name}, which process 0 wrote: set --run_dir "
            "to a folder that all hosts share (gs:// or a network disk)"
        )


def host0_only(progress: Callable[[str], None]) -> Callable[[str], None]:
    """`progress` on the first host, silence on the others."""
    return progress if is_host0() else lambda line: None


def describe_devices() -> str:
    """The devices of the run, for a line of progress."""
    count, hosts = jax.device_count(), jax.process_count()
    if hosts == 1:
        return f"{count} device(s)"
    return f"{count} devices on {hosts} hosts (this is {socket.gethostname()})"


def gather_bytes(content: bytes) -> list[bytes]:
    """The content of each process, in their order, on all of them."""
    sizes_P = _gather(np.asarray(len(content)))
    padded = np.zeros(int(sizes_P.max()), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    rows_PxN = _gather(padded)
    return [row[:size].tobytes() for row, size in zip(rows_PxN, sizes_P.tolist(), strict=True)]


def _gather(value: np.ndarray) -> np.ndarray:
    """The value of each process, [P, ...], to the bit."""
    if not jax.distributed.is_initialized():  # asks for no device, as process_count() would
        return value[None]
    from jax.experimental.multihost_utils import process_allgather

    bytes_N = np.frombuffer(value.tobytes(), np.uint8)  # jax would round float64
    bytes_PxN = np.asarray(process_allgather(bytes_N))
    return np.frombuffer(bytes_PxN.tobytes(), value.dtype).reshape(-1, *value.shape)
