"""Hints about missing files come soon, whatever is in the folder."""

from __future__ import annotations

import pytest
from etils import epath

from distill.common import text_files
from distill.errors import UserError
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
