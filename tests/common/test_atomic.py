"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import stat
import types

import pytest

from distill.common import atomic
from distill.errors import UserError


def test_an_error_leaves_the_old_file_and_no_scratch(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    with pytest.raises(KeyError), atomic.atomic_file(path) as file:
        file.write("new")
        raise KeyError
    with pytest.raises(KeyError), atomic.atomic_path(path) as scratch:
        scratch.write_text("new")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with atomic.atomic_path(tmp_path / "link") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "secret").read_text() == "kept"
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "new"


def test_a_folder_appears_at_once(tmp_path):
    folder = tmp_path / "deep" / "folder"
    with atomic.atomic_directory(folder, "mark") as scratch:
        (scratch / "inner").mkdir()
        (scratch / "inner" / "file").write_text("x")
        (scratch / "mark").write_text("")
        assert not folder.exists()
    assert {path.name for path in folder.iterdir()} == {"inner", "mark"}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_without_its_mark_is_completed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("from a killed writer")
    with atomic.atomic_directory(folder, "mark") as scratch:
        (scratch / "file").write_text("x")
        (scratch / "mark").write_text("")
    assert (folder / "file").read_text() == "x" and (folder / "mark").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_the_mark_moves_last(tmp_path, monkeypatch):
    """A writer that is killed on the way leaves a folder without it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("x")
    moved, replace = [], type(atomic.epath.Path("x")).replace

    def note(path, target):
        moved.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(type(atomic.epath.Path("x")), "replace", note)
    with atomic.atomic_directory(tmp_path / "folder", "mark") as scratch:
        for name in ("z", "mark", "a"):
            (scratch / name).write_text(name)
    assert sorted(moved[:2]) == ["a", "z"] and moved[2:] == ["mark"]


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    """Under the very name that the scratch file gets."""
    (tmp_path / "victim").write_text("kept")
    monkeypatch.setattr(atomic.uuid, "uuid4", lambda: types.SimpleNamespace(hex="0" * 32))
    (tmp_path / ".a.txt.00000000.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        atomic.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "victim").read_text() == "kept" and not (tmp_path / "a.txt").exists()


def test_an_error_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), atomic.atomic_directory(tmp_path / "folder", "mark"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_pipe_or_a_folder_is_not_replaced(tmp_path):
    """A device is neither: renaming a file to /dev/null would take it from every process."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(
            UserError, match=f"{name} is a .*, expected a file or a path that does not"
        ):
            atomic.write_text(tmp_path / name, "new")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "folder"}
