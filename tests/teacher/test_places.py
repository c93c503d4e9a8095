"""What cannot be written is refused before anything is paid for."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from scripted_server import MODEL, good, scripted

from distill import cli
from distill.data.examples import read_jsonl
from distill.teacher.results import aggregate

ASK = ["annotate", "--prompt=tickets", f"--model={MODEL}", "--progress_seconds=0"]


@pytest.fixture
def places(tmp_path):
    """A folder with a file, and folders where files belong."""
    (tmp_path / "file").write_text("kept")
    for name in ("folder", "o.dropped.jsonl"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output={}/folder"], "which is a folder; expected the name of a file"),
        (["--output={}/o.jsonl"], "o.dropped.jsonl', which is a folder"),
        (["--output={}/file/o.jsonl"], "file is a file; expected a folder"),
        (["--output=/proc/none/o.jsonl"], "which is a pipe or a device"),
        (["--output=/sys/none/o.jsonl"], "/sys cannot be written: "),
        (["--output=/dev/stdout"], "got --output '/dev/stdout', which is a pipe or a device"),
        (["--output=/dev/fd/1"], "which is a pipe or a device"),
        (["--output={}/a.jsonl", "--store={}/file"], "got --store, but"),
        (["--output={}/a.jsonl", "--store=/sys/none"], "/sys cannot be written: "),
        (["--output={}/a.jsonl", "--teacher_row={}/folder"], "which is a folder"),
        (["--output={}/a.jsonl", "--teacher_row=/sys/none/t"], "/sys cannot be written: "),
        (["--output={}/a.jsonl", "--released_dir={}/file"], "file is a file; expected a folder"),
    ],
)
def test_nothing_is_asked_if_something_cannot_be_written(places, rows_file, capsys, flags, message):
    before = sorted(path.name for path in places.iterdir())
    flags = [flag.format(places) for flag in flags]
    more = ["--dataset=svamp"] if "released" in flags[-1] else []
    with scripted(lambda request, _: good()) as (endpoint, url):
        argv = [*ASK, f"--input={rows_file}", f"--base_url={url}", *flags]
        if more:
            argv[1] = "--prompt=svamp"
        assert cli.main([*argv, *more]) == 2
        assert not endpoint.requests
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert sorted(path.name for path in places.iterdir()) == before


def test_the_file_behind_stdout_is_not_replaced(serve, rows_file, tmp_path):
    """/dev/stdout leads to a regular file if a shell redirects it, and is a device all the same."""
    link = os.readlink("/dev/stdout")
    with serve() as (endpoint, url), (tmp_path / "out").open("w") as out:
        argv = [*ASK, f"--input={rows_file}", f"--base_url={url}", "--output=/dev/stdout"]
        done = subprocess.run(
            [sys.executable, "-m", "distill.cli", *argv], stdout=out, stderr=subprocess.PIPE
        )
        assert done.returncode == 2 and not endpoint.counts
    assert b"which is a pipe or a device" in done.stderr and os.readlink("/dev/stdout") == link


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_found_before_the_first_request(
    rows_file, tmp_path, capsys, monkeypatch, number
):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with scripted(lambda request, _: good()) as (endpoint, url):
        argv = [f"--input={rows_file}", f"--base_url={url}", f"--output={tmp_path / 'o.jsonl'}"]
        assert cli.main([*ASK, *argv]) == 2
        assert not endpoint.requests
    assert f"{tmp_path} cannot be written: {os.strerror(number)}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_disk_that_fills_meanwhile_loses_no_answer(rows_file, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "o.jsonl")

    argv = [f"--input={rows_file}", f"--output={tmp_path / 'o.jsonl'}"]
    with scripted(lambda request, _: good()) as (endpoint, url):
        with monkeypatch.context() as patch:
            patch.setattr(aggregate, "write_jsonl", fail)
            assert cli.main([*ASK, *argv, f"--base_url={url}"]) == 2
        said = capsys.readouterr().err
        assert "o.jsonl cannot be written: No space left on device; the answers are stored" in said
        assert cli.main([*ASK, *argv, "--reparse"]) == 0
        assert len(endpoint.requests) == 40
    assert len(read_jsonl(tmp_path / "o.jsonl", "train")) == 40
