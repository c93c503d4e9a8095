"""Rows that stay on disk are those that `read_jsonl` reads, with the same complaints."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from etils import epath

from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data import datasets, row_file
from distill.data.examples import Example, read_jsonl
from distill.data.row_file import RowFile, index_jsonl, open_row_file, take, write_row_file
from distill.errors import UserError
from tasks import jsonl  # registers the dataset

ROWS = [{"input": f"ünput {i}", "label": "yes", "rationale": f"as {i}"} for i in range(20)]
assert jsonl.DATASET.name == "jsonl"


def _write(path, *lines):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_bytes("\n".join(texts).encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize("local", [True, False])
def test_rows_are_those_of_a_whole_read(local, tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "is_local", lambda path: local)
    path = _write(tmp_path / "a.jsonl", "\ufeff" + json.dumps(ROWS[0]), "", *ROWS[1:], "  ", "")
    rows, whole = (
        index_jsonl(path, "train", ("yes", "no")),
        read_jsonl(path, "train", ["yes", "no"]),
    )
    assert list(rows) == whole and len(rows) == 20 and rows[-1] == whole[-1]
    chosen = take(take(rows, np.array([5, 3, 8])), np.array([2, 0]))
    assert isinstance(chosen, RowFile) and list(chosen) == [whole[8], whole[5]]
    assert list(rows[3:5]) == whole[3:5]
    with pytest.raises(IndexError):
        chosen[2]
    write_row_file(epath.Path(tmp_path / "b.jsonl"), chosen)
    assert list(open_row_file(epath.Path(tmp_path / "b.jsonl"))) == list(chosen)


@pytest.mark.parametrize(
    "lines",
    [
        [ROWS[0], '{"input": '],
        [ROWS[0], {"label": "yes"}],
        [ROWS[0], {"input": "x", "label": 3}],
        [ROWS[0], {"input": "x", "label": "maybe"}],
        [{"input": "x", "id": "7"}, ROWS[0], {"input": "y", "id": "7"}],
        [ROWS[0], {"input": "x", "split": "test"}],
        [ROWS[0], {"input": "x", "lable": "yes"}],
        [ROWS[0], "\udcff"],
        [ROWS[0], "[1]"],
        [""],
    ],
)
def test_complaints_are_those_of_a_whole_read(lines, tmp_path):
    path = _write(tmp_path / "bad.jsonl", *lines)
    with pytest.raises(UserError) as whole:
        read_jsonl(path, "train", ["yes", "no"])
    with pytest.raises(UserError) as indexed:
        index_jsonl(path, "train", ["yes", "no"])
    assert str(indexed.value) == str(whole.value)


def test_memory_of_an_index_is_a_small_part_of_that_of_the_rows(tmp_path):
    path = _write(tmp_path / "long.jsonl", *(ROWS * 200))
    peaks = {}
    for read in (index_jsonl, read_jsonl):
        tracemalloc.start()
        kept = read(path, "train")
        peaks[read] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(kept) == 4000
    assert peaks[index_jsonl] < peaks[read_jsonl] / 4


@pytest.fixture
def spec(tmp_path):
    options = {
        name: str(_write(tmp_path / f"{name}.jsonl", *ROWS)) for name in ("train_file", "test_file")
    }
    return DataSpec("jsonl", "finetune", vocabulary="words", dataset_options=options)


def test_a_cache_on_disk_holds_what_the_same_rows_in_memory_give(spec, monkeypatch):
    tokens = caches.load_cache(spec)
    assert isinstance(tokens.rows["train"], RowFile)
    known = datasets.get("jsonl")
    in_memory = dataclasses.replace(known, load=lambda s: tuple(map(list, known.load(s))))
    monkeypatch.setitem(datasets._DATASETS, "jsonl", in_memory)
    monkeypatch.setattr(caches, "FORMAT", -1)
    again = caches.load_cache(spec)
    assert again.meta["counts"] == tokens.meta["counts"] and again.meta["rows"]["train"] == 18
    for split in datasets.SPLITS:
        assert list(again.rows[split]) == list(tokens.rows[split])
    for key, ragged in tokens.tokens.items():
        np.testing.assert_array_equal(again.tokens[key].values, ragged.values)
        np.testing.assert_array_equal(again.tokens[key].offsets, ragged.offsets)


def test_a_second_start_parses_no_row(spec, monkeypatch):
    from distill.data.cache import vocabulary_of

    caches.load_cache(spec)
    read = Example.from_dict
    monkeypatch.setattr(Example, "from_dict", lambda *_: pytest.fail("parsed a row"))
    tokens = caches.load_cache(spec)
    assert len(tokens.rows["train"]) == 18 and vocabulary_of(spec).vocab_size > 20
    monkeypatch.setattr(Example, "from_dict", read)
    assert tokens.rows["test"][0].input == "ünput 0"


def test_what_refuses_the_rows_leaves_no_folder(spec):
    folder = caches.cache_dir()
    before = {path.name for path in folder.iterdir()} if folder.exists() else set()
    _write(epath.Path(spec.option("test_file")), {"input": "x", "label": "yes " * 99})
    with pytest.raises(UserError, match="TARGET_LENGTH"):
        caches.load_cache(spec)
    assert {path.name for path in folder.iterdir()} == before


def test_of_two_writers_one_wins_and_both_read(spec, monkeypatch):
    fill = caches._fill

    def slow(scratch, *arguments):
        fill(scratch, *arguments)
        if not calls:  # another writer begins and ends before this one takes the name
            calls.append(scratch)
            caches.load_cache(spec)

    calls: list[object] = []
    monkeypatch.setattr(caches, "FORMAT", -2)
    monkeypatch.setattr(caches, "_fill", slow)
    assert len(caches.load_cache(spec).rows["train"]) == 18
    assert calls and not calls[0].exists()


def test_a_writer_who_is_killed_while_it_publishes_leaves_no_cache(spec, monkeypatch):
    """The mark comes last, and the next writer completes what is there."""
    monkeypatch.setattr(caches, "FORMAT", -3)
    move, moved = type(epath.Path()).replace, []

    def killed(path, target):
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(path.name)
        return move(path, target)

    folder = caches.cache_folder(spec, datasets.file_digests(spec))
    folder.mkdir(parents=True)
    (folder / "of_another_writer").write_text("")  # so that the files move one by one
    with monkeypatch.context() as patch:
        patch.setattr(type(epath.Path()), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            caches.load_cache(spec)
    assert {path.name for path in folder.iterdir()} == {*moved, "of_another_writer"}
    assert "meta.json" not in moved
    assert len(caches.load_cache(spec).rows["train"]) == 18
    assert not list(folder.parent.glob(".*.tmp"))
