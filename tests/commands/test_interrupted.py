"""Ctrl-C says in one line what is kept; training and annotation have tests of their own."""

from __future__ import annotations

from distill import cli
from distill.data.download import transfer
from distill.training import run_folder


def _press(*given, **named):
    raise KeyboardInterrupt


def test_fetch(tmp_path, monkeypatch, capsys):
    (tmp_path / "datasets.zip").write_bytes(b"x")
    monkeypatch.setattr(transfer, "_copy", _press)
    argv = ["data", "fetch", f"--source={tmp_path}", f"--output={tmp_path}/out"]
    assert cli.main([*argv, "--only=datasets.zip"]) == 130
    told = f"complete files are kept in {tmp_path}/out; the same command fetches the others"
    assert capsys.readouterr().err.endswith(f"distill: interrupted: {told}\n")
    assert not list((tmp_path / "out").glob("*zip*")), "what is not complete is not kept"


def test_evaluate(monkeypatch, capsys):
    monkeypatch.setattr(run_folder, "read_config", _press)
    assert cli.main(["evaluate", "--run_dir=x"]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "distill: interrupted: no scores are kept; the same command starts again"
