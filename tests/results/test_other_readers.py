"""records.jsonl as pandas and duckdb read it."""

import pytest

from distill.results import store


@pytest.fixture
def path(tmp_path, make_record, make_failure):
    """A file with finished and failed runs, whose axes differ."""
    store.append(tmp_path, make_record(accuracy=0.25))
    store.append(tmp_path, make_record(run="b", seed=2, accuracy=0.75, axes={"size": "220M"}))
    store.append(tmp_path, make_failure(run="c"))
    return tmp_path / "records.jsonl"


def test_pandas_reads_it(path):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_json(path, lines=True)
    assert list(table["run"]) == ["a", "b", "c"] and list(table["seed"]) == [1, 2, 1]
    assert table["accuracy"].mean() == 0.5
    assert table["accuracy"].isna().tolist() == [False, False, True]
    assert table["axes"][0]["labels"] == 500 and table["interval"][0] == pytest.approx([0.4, 0.6])


def test_duckdb_reads_it(path):
    duckdb = pytest.importorskip("duckdb")
    query = f"select axes, avg(accuracy) from '{path}' where status = 'done' group by axes"
    found = {str(axes.get("size")): mean for axes, mean in duckdb.sql(query).fetchall()}
    assert found == {"None": 0.25, "220M": 0.75}
    failed = duckdb.sql(f"select run from '{path}' where error is not null").fetchall()
    assert failed == [("c",)]
