"""Hosts with different software are refused on all of them, before a device is used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from distill.errors import UserError
from distill.training import same_install

# A process whose jaxlib is another one if its index is among the arguments.
HOST = """
import sys
from distill.errors import UserError
from distill.training import hosts, same_install
address, index, count, *odd = sys.argv[1:]
installed = same_install.installed
if index in odd:
    same_install.installed = lambda: {**installed(), "jaxlib": "0.9.9"}
try:
    hosts.connect(address, int(count), int(index))
except UserError as error:
    print(error)
    sys.exit(2)
"""


def connect(*odd: str) -> list[tuple[int, str]]:
    """Exit code and output of two processes that connect."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, address, index, "2", *odd],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for index in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
        return [(process.returncode, text) for process, text in zip(started, said, strict=True)]
    finally:
        for process in started:
            process.kill()


def test_another_jaxlib_is_refused_on_both_hosts():
    theirs = same_install.installed()["jaxlib"]
    for code, said in connect("1"):
        assert code == 2
        assert f"jaxlib is {theirs} on process 0 and 0.9.9 on 1. Use one image" in said


@pytest.mark.slow
def test_equal_hosts_connect():
    assert connect() == [(0, ""), (0, "")]


def test_what_differs_is_named_with_the_process():
    ours = {"jax": "0.10.2", "libtpu": "0.0.42"}
    same_install.compare([ours, ours, dict(ours)])
    with pytest.raises(
        UserError,
        match=r"software: jax is 0\.10\.2 on process 0 and 0\.10\.1 on 1, 3; libtpu is 0\.0\.42 on "
        r"process 0 and not installed on 2\. Use",
    ):
        same_install.compare(
            [ours, {**ours, "jax": "0.10.1"}, {"jax": "0.10.2"}, {**ours, "jax": "0.10.1"}]
        )
    other = dict.fromkeys("abcde", "other")
    with pytest.raises(UserError, match=r"c is not installed .* and 2 more\. Use"):
        same_install.compare([{}, other])


def test_a_changed_source_file_is_seen(tmp_path, monkeypatch):
    before = same_install.source_digest()
    assert same_install.source_digest() == before
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(same_install.distill, "__file__", str(tmp_path / "__init__.py"))
    empty = same_install.source_digest()
    (tmp_path / "__init__.py").write_text("CHANGED = True\n")
    assert len({before, empty, same_install.source_digest()}) == 3
