"""Who holds a lock: how a process describes itself, and whether that process still runs."""

from __future__ import annotations

import datetime
import os
import pathlib
import socket
from collections.abc import Mapping

_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"  # containers of one machine number their processes on their own


def describe_this_process() -> dict[str, object]:
    """Process, host and begin, and what `is_running` needs to find the process again."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": started,
        "boot": _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "",
        "pid_namespace": _namespace(),
        "ticks": _ticks(os.getpid()),
    }


def name_holder(holder: Mapping[str, object]) -> str:
    """A holder for a message."""
    if not holder.get("pid"):
        return "another process"
    parts = ("process", "pid"), ("on", "host"), ("since", "started")
    return " ".join(f"{word} {holder[key]}" for word, key in parts if holder.get(key))


def is_running(holder: Mapping[str, object]) -> bool | None:
    """Whether a holder still runs; None if it is of another machine, or that is not known."""
    own = describe_this_process()
    same = ("host", "boot", "pid_namespace")
    if any(not own[name] or holder.get(name) != own[name] for name in same):
        return None
    pid, ticks = holder.get("pid"), holder.get("ticks")
    return _ticks(pid) == ticks if isinstance(pid, int) and isinstance(ticks, int) else None


def _namespace() -> str:
    try:
        return os.readlink(_NAMESPACE)
    except OSError:
        return ""


def _ticks(pid: int) -> int:
    """When a process began, in clock ticks since the boot; 0 if there is no such process.

    Source: proc(5), field 22 of /proc/PID/stat; the second, in parentheses, may hold spaces.
    """
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
