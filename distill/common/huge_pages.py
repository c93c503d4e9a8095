"""Large arrays in huge pages, which makes training on a CPU faster.

XLA allocates the arrays of a step anew in each step, and the kernel clears them page by page: with
pages of 4 KiB that is a quarter of a million page faults for 1 GB. glibc can ask for pages of
2 MiB, but decides so when a process starts. So the process replaces itself once, with the setting
in its environment; it keeps its id, its arguments and its streams.

Nothing happens where it would not help: on other systems and with older C libraries, where the
kernel uses huge pages always or never, and where GLIBC_TUNABLES already says what to do.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLES, SETTING = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
OLDEST_GLIBC = 2, 35  # has the setting
KERNEL_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def environment(given: Mapping[str, str], kernel_mode: Path = KERNEL_MODE) -> dict[str, str]:
    """What to add to the environment of a process so that it uses huge pages.

    Args:
      given: its environment.
      kernel_mode: the file in which the kernel says whether programs may ask for huge pages.

    Returns:
      A variable, or nothing.
    """
    if SETTING in given.get(TUNABLES, "") or _glibc() < OLDEST_GLIBC:
        return {}
    try:
        if "[madvise]" not in kernel_mode.read_text():
            return {}
    except OSError:
        return {}
    return {TUNABLES: ":".join(filter(None, (given.get(TUNABLES), f"{SETTING}=1")))}


def restart_with_huge_pages() -> None:
    """Replaces this process by one with the same command that uses huge pages, if that helps."""
    more = environment(os.environ)
    if more:
        with contextlib.suppress(OSError):  # goes on without them
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | more)


def _glibc() -> tuple[int, ...]:
    """The version of the C library; (0,) for another one."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (AttributeError, ValueError, OSError):
        return (0,)
    return tuple(int(part) for part in version.split(".")) if name == "glibc" else (0,)
