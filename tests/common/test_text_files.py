"""Hints about missing files come soon; integers that Python refuses are told in our words."""

from __future__ import annotations

import pytest
from etils import epath

from distill.common import text_files
from distill.common.holders import name_holder
from distill.config import macros
from distill.data.formats.record_files import open_records
from distill.errors import UserError
from distill.sweep.file import read_sweep
from distill.training import run_folder


@pytest.fixture
def looked_at(monkeypatch) -> None:
    monkeypatch.setattr(text_files, "LOOKED_AT", 3)


def test_a_hint_looks_at_some_names_and_says_so(looked_at, tmp_path):
    path = epath.Path(tmp_path / "rows.jsonl")
    for name in ("a", "b"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="no similar name in its folder"):
        text_files.check_file(path)
    for name in ("c", "d"):
        (tmp_path / name).touch()
    assert len(text_files.first_names(epath.Path(tmp_path))) == 3
    with pytest.raises(UserError, match="no similar name among the first 3 in its folder"):
        text_files.check_file(path)


def test_a_hint_about_runs_looks_at_some_names(monkeypatch, tmp_path):
    monkeypatch.setattr(text_files, "LOOKED_AT", 2)
    for name in "abcd":
        (tmp_path / name).mkdir()
        (tmp_path / name / run_folder.CONFIG).touch()
    with pytest.raises(UserError, match="is not a run folder") as found:
        run_folder.read_config(tmp_path)
    assert str(found.value).count(f"{tmp_path}/") == 3  # the file, and two runs


NINES = "9" * 5000


@pytest.mark.parametrize(
    "read",
    [
        lambda path: text_files.parse_json(f'{{"a": {NINES}}}'),
        lambda path: text_files.parse_toml(f"a = {NINES}"),
        lambda path: text_files.read_json(path),
        lambda path: list(open_records(path, "train").read()),
        lambda path: macros.parse_override(f"TRAIN_STEPS={NINES}"),
        lambda path: macros.read_gin([str(path.parent / "n.gin")]),
        lambda path: read_sweep(path.parent / "n.toml"),
    ],
)
def test_an_integer_of_too_many_digits(read, tmp_path):
    (tmp_path / "n.json").write_text(f'[{{"input": {NINES}}}]')
    (tmp_path / "n.gin").write_text(f"TRAIN_STEPS = {NINES}")
    (tmp_path / "n.toml").write_text(f"seeds = [{NINES}]")
    with pytest.raises((UserError, ValueError), match=r"an integer of .*digits") as found:
        read(epath.Path(tmp_path / "n.json"))
    assert "set_int_max_str_digits" not in str(found.value)


def test_a_holder_is_named_with_what_is_known():
    assert name_holder({}) == name_holder({"host": "h"}) == "another process"
    assert name_holder({"pid": 3, "host": "h"}) == "process 3 on h"
    assert name_holder({"pid": 3, "host": "h", "started": "t"}) == "process 3 on h since t"


def test_a_mark_of_windows_editors_is_no_error(tmp_path):
    gin, toml = tmp_path / "x.gin", tmp_path / "x.toml"
    text = "include 'gin/experiments/tickets_finetune.gin'\r\nTRAIN_STEPS = 4\r\n"
    gin.write_bytes(text_files.BOM + text.encode())
    assert macros.read_gin([str(gin)]).value("TRAIN_STEPS") == 4
    text = 'title = "T"\r\nseeds = [1]\r\ngin_files = ["tickets_finetune"]\r\n'
    toml.write_bytes(text_files.BOM + text.encode())
    assert read_sweep(str(toml)).seeds == (1,)
    toml.write_bytes(text.encode("utf-16"))
    with pytest.raises(UserError, match=r"x.toml is UTF-16, expected UTF-8"):
        read_sweep(str(toml))
