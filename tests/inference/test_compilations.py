"""A folder in which compiled programs cannot be kept gives one line, not jax's warnings."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from distill.inference import compilations

PROGRAM = """
import warnings
import jax
from distill.inference.compilations import share_compilations
share_compilations()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
assert jax.jit(lambda x: x + 1)(1) == 2
assert jax.jit(lambda x: x + 2)(1) == 3
warnings.warn("something else")
"""


def _stderr(folder):
    environment = {**os.environ, "DISTILL_CACHE_DIR": str(folder), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_file_in_its_place_is_told_once_and_programs_run(tmp_path):
    (tmp_path / "xla").write_text("")
    told = _stderr(tmp_path)
    assert told.count("persistent compilation") == 0
    assert told.count(f"warning: {tmp_path}/xla cannot be read (File exists), so compiled") == 1
    assert "UserWarning: something else" in told


@pytest.mark.parametrize(
    ("warning", "expected"),
    [
        ("writing !: OSError: [Errno 28] No space left on device", "written (No space left on dev"),
        ("writing !: PermissionError: [Errno 13] Permission denied: '/a'", "(Permission denied)"),
        ("reading !: error: Error -5 while decompressing", "is damaged (error: Error -5 while dec"),
    ],
)
def test_each_failure_is_one_line(monkeypatch, warning, expected):
    lines: list[str] = []
    monkeypatch.setattr(compilations, "_told", set())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = compilations._Warnings(warnings.showwarning, lines.append)
        for name in ("jit_a", "jit_b"):
            place = f"persistent compilation cache entry for '{name}'"
            warnings.warn("Error " + warning.replace("!", place), stacklevel=1)
    (line,) = lines
    assert expected in line
