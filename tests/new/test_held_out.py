"""Which rows `distill new` holds out."""

from __future__ import annotations

from distill.common.hashing import uniform
from distill.data.examples import Example, read_jsonl, write_jsonl


def test_rows_without_a_label_are_held_out_only_with_the_input_of_one_that_has_one(new, tmp_path):
    rows = [Example(f"r{n}", f"text number {n}", ("yes", "no")[n % 2]) for n in range(50)]
    bare = [Example(f"u{n}", f"another text {n}", None) for n in range(300)]
    copies = [Example(f"c{n}", f"Text  number {n}", None) for n in range(50)]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *bare, *copies])
    created, folder = new(tmp_path / "rows.jsonl")
    test = read_jsonl(folder / "test.jsonl", "test")
    labeled = {row.id for row in test if row.label is not None}
    assert len(labeled) == 10 and created["rows"] == {"train": 380, "test": 20}
    assert {row.id for row in test} == labeled | {f"c{name[1:]}" for name in labeled}


def test_the_rest_still_has_test_rows_for_test_fraction(new, tmp_path):
    rows = [Example(f"r{n}", f"text number {n}", ("yes", "no")[n % 2]) for n in range(300)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    _, folder = new(tmp_path / "rows.jsonl")
    train = read_jsonl(folder / "train.jsonl", "train")
    share = sum(uniform("test", 0, row.input) < 0.2 for row in train) / len(train)
    assert 0.1 < share < 0.3
