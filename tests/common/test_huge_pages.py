"""When a process asks for huge pages, and that the command line does so once."""

import os
import subprocess
import sys

import pytest

from distill import cli
from distill.common import huge_pages


@pytest.fixture
def mode(tmp_path):
    """Writes the kernel's file."""

    def write(text):
        path = tmp_path / "enabled"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def new_glibc(monkeypatch):
    monkeypatch.setattr(huge_pages, "_glibc", lambda: (2, 36))


def test_asks_where_the_kernel_leaves_it_to_programs(mode, new_glibc):
    path = mode("always [madvise] never")
    assert huge_pages.environment({}, path) == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    others = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}
    assert huge_pages.environment(others, path) == {
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1"
    }


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]"])
def test_asks_for_nothing_where_it_changes_nothing(mode, new_glibc, text):
    assert huge_pages.environment({}, mode(text)) == {}


def test_leaves_what_the_user_decided(mode, new_glibc, tmp_path):
    decided = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    assert huge_pages.environment(decided, mode("[madvise]")) == {}
    assert huge_pages.environment({}, tmp_path / "absent") == {}


@pytest.mark.parametrize("version", [(2, 34), (0,)])
def test_leaves_other_libraries_alone(mode, monkeypatch, version):
    monkeypatch.setattr(huge_pages, "_glibc", lambda: version)
    assert huge_pages.environment({}, mode("[madvise]")) == {}


@pytest.mark.parametrize(
    ("argv", "restarts"), [(["train", "--x"], True), (["evaluate"], True), (["predict"], False)]
)
def test_commands_that_compute_restart(monkeypatch, argv, restarts):
    done = []
    monkeypatch.setattr(cli.sys, "argv", ["distill", *argv])
    monkeypatch.setattr(cli, "restart_with_huge_pages", lambda: done.append("restart"))
    monkeypatch.setattr(cli, "run_and_exit", lambda main: done.append("run"))
    cli.run_process()
    assert done == ["restart"] * restarts + ["run"]


def test_the_restarted_process_is_the_same_with_the_setting(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from distill.common import huge_pages\n"
        "huge_pages._glibc = lambda: (2, 36)\n"
        "first = os.environ.get('FIRST')\n"
        "os.environ.setdefault('FIRST', str(os.getpid()))\n"
        f"mode = {str(tmp_path / 'mode')!r}\n"
        "huge_pages.environment.__defaults__ = (huge_pages.Path(mode),)\n"
        "huge_pages.restart_with_huge_pages()\n"
        "print(first == str(os.getpid()), sys.argv[1:], os.environ['GLIBC_TUNABLES'])\n"
    )
    (tmp_path / "mode").write_text("[madvise]")
    environment = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "FIRST")}
    done = subprocess.run(
        [sys.executable, str(program), "a b", "--c"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True ['a b', '--c'] glibc.malloc.hugetlb=1\n"
