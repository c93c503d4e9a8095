"""Compiled programs in the cache folder, and one line where they cannot be kept there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TextIO

import jax

from distill.common.progress import Say, to_stderr
from distill.data import cache as caches

FOLDER = "xla"  # in the cache folder
# What jax warns of for each program; the run goes on.
_FAILED = re.compile(
    r"Error (?P<verb>read|writ)ing persistent compilation cache entry for '[^']*': "
    r"(?P<reason>.*)",
    re.DOTALL,
)
_SYSTEM = re.compile(r"\w+: \[Errno \d+\] (?P<text>[^:]*)(:.*)?", re.DOTALL)

_told: set[str] = set()


def share_compilations(say: Say = to_stderr) -> None:
    """Keeps compiled programs in the cache folder: a second start does not compile again.

    If that fails, `say` gets one line in place of jax's warnings, and programs are compiled.
    """
    folder = str(caches.cache_dir() / FOLDER)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not isinstance(warnings.showwarning, _Warnings):
        warnings.showwarning = _Warnings(warnings.showwarning, say)


class _Warnings:
    """Shows warnings as before, but those about the folder as one line for each folder."""

    def __init__(self, show: Callable[..., object], say: Say) -> None:
        self._show, self._say = show, say

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """As `warnings.showwarning`."""
        failed = _FAILED.fullmatch(str(message))
        if failed is None:
            self._show(message, category, filename, lineno, file, line)
            return
        folder = str(jax.config.values["jax_compilation_cache_dir"])
        if folder not in _told:
            _told.add(folder)
            self._say(_describe(folder, failed["verb"], failed["reason"]))


def _describe(folder: str, verb: str, reason: str) -> str:
    of_system = _SYSTEM.fullmatch(reason)
    if of_system:
        tried = "read" if verb == "read" else "written"
        return (
            f"warning: {folder} cannot be {tried} ({of_system['text']}), so compiled programs are "
            "not kept and each start compiles them again; check its permissions and free space, "
            "or set DISTILL_CACHE_DIR to another folder"
        )
    return (
        f"warning: a compiled program in {folder} is damaged ({reason.partition(chr(10))[0]:.100}) "
        "and is compiled again at each start; delete that folder"
    )
