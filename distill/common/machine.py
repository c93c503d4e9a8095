"""The machine that something was measured on, and what else it did meanwhile."""

from __future__ import annotations

import os
import pathlib
import platform
import time

_PROC_STAT, _CPUINFO = pathlib.Path("/proc/stat"), pathlib.Path("/proc/cpuinfo")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal, of the line "cpu"


def cores() -> int:
    """Cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def processor() -> str:
    """Name of the processor, e.g. "AMD EPYC"; that of its architecture if it has no other."""
    try:
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine()


class OtherWork:
    """What processes other than this one compute, from its start on."""

    def __init__(self) -> None:
        """Starts to count."""
        self._start = _snapshot()

    def cores(self) -> float | None:
        """Cores that others kept busy, on average since the start; None if it cannot be known.

        Time that a hypervisor gave to other machines is included.
        """
        began, busy_before, own_before = self._start
        now, busy, own = _snapshot()
        if busy is None or busy_before is None or now <= began:
            return None
        return max(0.0, (busy - busy_before) - (own - own_before)) / (now - began)


def _snapshot() -> tuple[float, float | None, float]:
    """Seconds: the time, what all cores have computed, what this process has."""
    return time.monotonic(), _busy_seconds(), time.process_time()


def _busy_seconds() -> float | None:
    try:
        fields = _PROC_STAT.read_text().partition("\n")[0].split()
        ticks = [int(fields[1 + place]) for place in _BUSY]
    except (OSError, ValueError, IndexError):
        return None
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if any(ticks) else None  # a sandbox gives zeros
