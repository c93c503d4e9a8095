"""`distill data build`: built once, found again, and never taken for other data."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile

import pytest

from distill import cli

DUMMY = pathlib.Path(__file__).parent / "tfds_dummy"


def build(folder, *more, dataset="svamp"):
    argv = ["data", "build", f"--dataset={dataset}", f"--tfds_data_dir={folder}", "--json"]
    return cli.main([*argv, *more])


def test_built_then_found_then_refused_for_other_data(tmp_path, capsys):
    raw = tmp_path / "raw"
    shutil.copytree(DUMMY / "svamp", raw / "svamp")
    assert build(tmp_path / "out", f"--raw_dir={raw}") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["tfds_name"] == "distill_released/svamp:1.0.0"
    assert first["splits"] == {"train": 3, "test": 2} and not first["was_there"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["distill_released"]

    assert build(tmp_path / "out", f"--raw_dir={raw}") == 0
    assert json.loads(capsys.readouterr().out) == first | {"was_there": True}
    shutil.copytree(raw, tmp_path / "elsewhere")
    assert build(tmp_path / "out", f"--raw_dir={tmp_path / 'elsewhere'}") == 0

    part = raw / "svamp" / "llm" / "train_CoT_0.json"
    part.write_text(part.read_text().replace("Three fours", "Four threes"))
    capsys.readouterr()
    assert build(tmp_path / "out", f"--raw_dir={raw}") == 2
    said = capsys.readouterr().err
    assert "was built from other data" in said and first["data_digest"] in said
    assert build(tmp_path / "out2", f"--raw_dir={raw}") == 0


def test_returns_needs_no_files(tmp_path, capsys, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    few = ("--policy=hard", "--rows=6", "--test_rows=4")
    assert build(tmp_path, *few, dataset="tickets") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 6, "test": 4}
    assert found["tfds_name"] == "distill_tickets/hard_rows6_test4_teacher1p0_seed0:1.0.0"
    assert build(tmp_path, *few, "--seed=1", dataset="tickets") == 0
    assert json.loads(capsys.readouterr().out)["data_digest"] != found["data_digest"]
    assert tempfile.gettempdir() == str(tmp_path / "temporary")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("dataset", "more", "message"),
    [
        ("svmap", (), "closest: svamp"),
        ("svamp", (), "dataset svamp needs --raw_dir"),
        ("jsonl", (), "your train.jsonl"),
        ("cqa", ("--raw_dir={dir}/none",), "/none does not exist"),
        ("cqa", ("--raw_dir={dir}",), "no released rows of cqa"),
        ("cqa", ("--raw_dir={dir}", "--teacher=plam"), "closest: palm"),
        ("tickets", ("--policy=hrd",), "closest: hard"),
        ("tickets", ("--teacher_accuracy=2",), "2.0"),
        ("jsonl", ("--raw_dir={dir}", "--name=My rows"), "expected lowercase letters"),
    ],
)
def test_bad_input(tmp_path, capsys, dataset, more, message):
    filled = [flag.format(dir=tmp_path) for flag in more]
    assert build(tmp_path / "out", *filled, dataset=dataset) == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("distill:")]
    assert message in line
    assert not list(tmp_path.glob("out/*/*/1.0.0"))


def test_a_bad_row_is_named_and_nothing_is_built(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text('{"input": "x"}\n{"input": 3}\n')
    assert build(tmp_path / "out", f"--raw_dir={tmp_path}", dataset="jsonl") == 2
    assert "train.jsonl:2: got 3 for `input`" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*/*/1.0.0"))
