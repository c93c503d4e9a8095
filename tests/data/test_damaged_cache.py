"""A damaged token cache is made again, and a line says so."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from distill.config import resolve
from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.errors import UserError

resolve.import_tasks()


@pytest.fixture
def spec(tmp_path, monkeypatch) -> DataSpec:
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl"
    rows = [{"input": f"row number {n}", "label": "yes" if n % 2 else "no"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"train_file": str(path), "test_file": str(path)}
    return DataSpec("jsonl", "finetune", vocabulary="words", dataset_options=options)


def _content(cache: caches.TokenCache) -> tuple:
    arrays = {k: (v.values.tobytes(), v.offsets.tobytes()) for k, v in cache.tokens.items()}
    return dict(cache.meta), arrays, cache.words, {k: list(v) for k, v in cache.rows.items()}


def _flip_lowest(path: pathlib.Path) -> None:
    numbers = np.fromfile(path, np.uint8)
    numbers[::4] ^= 1
    numbers.tofile(path)


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "flipped": _flip_lowest,
    "not UTF-8": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
}


def test_every_damage_of_every_file_is_seen_and_made_good(spec):
    first = caches.load_cache(spec)
    wanted, folder = _content(first), pathlib.Path(first.folder)
    names = sorted(path.name for path in folder.iterdir() if path.stat().st_size)
    assert {"meta.json", "words.txt", "train.label.inputs", "train.jsonl"} <= set(names)
    assert caches._damage(first.folder) is None
    for name in names:
        content = (folder / name).read_bytes()
        for damage in DAMAGES.values():
            caches._COMPARED.clear()  # as in a new process
            damage(folder / name)
            assert f"file {name} " in caches._damage(first.folder)
        (folder / name).write_bytes(content)
    (folder / "train.label.inputs").write_bytes(b"")
    lines: list[str] = []
    assert _content(caches.load_cache(spec, say=lines.append)) == wanted
    assert lines[0].endswith(
        "is damaged (file train.label.inputs has 0 bytes, expected "
        f"{first.meta['contents']['train.label.inputs']['bytes']:,}): rebuilding it"
    )
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_words_are_not_taken_from_a_damaged_cache(spec, monkeypatch):
    folder = caches.load_cache(spec).folder
    assert "number" in caches.stored_words(spec)
    compared = []
    with monkeypatch.context() as patch:
        patch.setattr("distill.common.digests.sha256", compared.append)
        caches.stored_words(spec)
    assert not compared  # once a process
    (folder / "words.txt").write_text("other")
    assert caches.stored_words(spec) == []


def test_a_cache_folder_that_cannot_be_written_is_named(spec, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "file/cache"))
    with pytest.raises(UserError, match=r"got DISTILL_CACHE_DIR=.*/file/cache, but .*/file is a"):
        caches.load_cache(spec)
