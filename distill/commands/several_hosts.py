"""Flags of commands that run on several hosts."""

from __future__ import annotations

import argparse

from distill.common import cluster
from distill.common.progress import to_stderr
from distill.errors import UserError

_UNLESS = "; needed only if hosts are not detected"
_JOIN = "join all hosts into one run; they are detected on Cloud TPU, GKE, Slurm and Open MPI"
_SHARE = (
    "take the number of processes, and which this one is, from Cloud TPU, GKE, Slurm or Open MPI; "
    "the hosts of a TPU slice are connected, other processes are not"
)
Place = tuple[str | None, int | None, int | None, int | None, float]


def add(command: argparse.ArgumentParser, shares: bool = False) -> None:
    """Adds `--distributed` and the flags that say which process this is.

    Args:
      command: takes the flags.
      shares: whether the processes share work, and are connected only where they have to be.
    """
    several = command.add_argument_group("several hosts (start the command on each)")
    several.add_argument("--distributed", action="store_true", help=_SHARE if shares else _JOIN)
    several.add_argument("--num_processes", type=int, help=f"number of processes{_UNLESS}")
    several.add_argument("--process_id", type=int, help=f"index of this process, from 0{_UNLESS}")
    needed = "; connects the processes" if shares else _UNLESS
    several.add_argument(
        "--coordinator_address", metavar="HOST:PORT", help=f"address of process 0{needed}"
    )
    several.add_argument(
        "--coordinator_port",
        type=int,
        metavar="PORT",
        help=(
            "port of process 0; default that of --coordinator_address, 8476 on TPUs, and on Slurm "
            "and Open MPI one that depends on the job"
        ),
    )
    several.add_argument(
        "--start_timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long to wait for the other hosts; those that are missing are named meanwhile",
    )


def is_joined(options: argparse.Namespace) -> bool:
    """Whether the processes of a command that shares rows have to be connected.

    The hosts of a TPU slice have to: none of them can start its chips alone.
    """
    if options.coordinator_address is not None:
        return True
    if not options.distributed or options.num_processes is not None:
        return False
    place = cluster.detect()
    return place is not None and place.is_tpu and place.count > 1


def share_of(options: argparse.Namespace) -> tuple[int, int]:
    """Index and number of processes that are not connected; (0, 1) where no flag is given.

    Raises:
      UserError: flags that contradict each other, an index that is out of range, or --distributed
        where nothing says which process this is.
    """
    count, index = options.num_processes, options.process_id
    if options.distributed:
        if count is not None or index is not None:
            raise UserError(
                "got --distributed with --num_processes or --process_id, expected only one of them"
            )
        place = cluster.detect()
        if place is None:
            raise UserError(
                "--distributed: found neither a TPU slice nor Slurm nor Open MPI; give each "
                "process --num_processes and its own --process_id"
            )
        return place.index, place.count
    if count is None and index is None:
        return 0, 1
    if count is None or index is None:
        raise UserError("--num_processes and --process_id must be given together")
    cluster.check_index(index, count)
    return index, count


def place_of(options: argparse.Namespace) -> Place:
    """What `hosts.connect` takes."""
    return (
        options.coordinator_address,
        options.num_processes,
        options.process_id,
        options.coordinator_port,
        options.start_timeout,
    )


def is_given(options: argparse.Namespace) -> bool:
    """Whether any of the flags is given."""
    return options.distributed or any(value is not None for value in place_of(options)[:3])


def check_not_alone(shares: bool = False) -> None:
    """For a command that was not told to join others.

    Args:
      shares: whether processes may share its work without being joined.

    Raises:
      UserError: it runs on one of the hosts of a TPU slice, where jax would wait for the others.
    """
    note = cluster.check_not_alone()
    if note and not shares:
        to_stderr(note)
