"""Which rows `distill new` holds out."""

from __future__ import annotations

from distill.common.hashing import uniform
from distill.data.examples import Example, read_jsonl, write_jsonl


def test_the_rest_still_has_test_rows_for_test_fraction(new, tmp_path):
    rows = [Example(f"r{n}", f"text number {n}", ("yes", "no")[n % 2]) for n in range(300)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    _, folder = new(tmp_path / "rows.jsonl")
    train = read_jsonl(folder / "train.jsonl", "train")
    share = sum(uniform("test", 0, row.input) < 0.2 for row in train) / len(train)
    assert 0.1 < share < 0.3
