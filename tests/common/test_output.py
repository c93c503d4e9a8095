"""Standard output that cannot take everything: its encoding, or its disk."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from distill import cli

_PRINT = (
    "from distill.common import terminal; terminal.escape_unencodable(); "
    "print('caf\\u00e9'); print(terminal.json_line({'a': 'caf\\u00e9'}))"
)


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "caf\\xe9"), ("utf-8", "café")])
def test_characters_that_the_encoding_lacks_are_escaped(encoding, shown):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT], env=environment, capture_output=True, check=True
    )
    text, line = done.stdout.decode(encoding).splitlines()
    assert text == shown and json.loads(line) == {"a": "café"}


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_of_the_output_is_one_message():
    command = [sys.executable, "-m", "distill", "config", "show", "--gin_file=tickets_finetune"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "distill: the output cannot be written: No space left on device\n"


def test_a_variable_that_jax_refuses_is_named(monkeypatch):
    text = "invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'"
    assert cli._bad_variable(ValueError(text)) is None
    monkeypatch.setenv("JAX_ENABLE_X64", "maybe")
    told = cli._bad_variable(ValueError(text))
    assert told == f"got JAX_ENABLE_X64=maybe in the environment: {text}; correct or unset it"
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "x")
    told = cli._bad_variable(ValueError("Invalid value for JAX flag jax_default_matmul_precision"))
    assert told and told.startswith("got JAX_DEFAULT_MATMUL_PRECISION=x in the environment")
