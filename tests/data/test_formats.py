"""One table in every format is the same rows, and what is wrong in a file is named."""

from __future__ import annotations

import csv
import gzip
import json
import pathlib
import tracemalloc

import pytest

from distill.data import tables
from distill.data.formats import arrow_rows, json_array, record_files
from distill.data.mapping.row_mapping import RowMapping, mapping_of
from distill.errors import UserError
from distill.inference import inputs
from distill.teacher import sources

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "hf_datasets"
RECORDS = [
    {"Title": "Blender", "body": 'it "broke",\nsadly', "stars": 1, "shop": "north"},
    {"Title": "", "body": "fine\tthanks é", "stars": 0, "shop": None},
    {"Title": "Kettle", "body": "{body} leaks", "stars": -1, "shop": "south"},
]
FIELDS = ("input={Title}: {body}", "label=stars")
READERS = [tables.read_table, tables.open_table, tables.stream_table]


def _write(folder: pathlib.Path, kind: str) -> pathlib.Path:
    path = folder / f"rows.{kind}"
    plain = path.with_suffix("") if kind.endswith(".gz") else path
    suffix = plain.suffix
    if suffix in (".csv", ".tsv"):
        with open(plain, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, RECORDS[0], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(RECORDS)
    elif suffix in (".jsonl", ".ndjson"):
        plain.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    elif suffix == ".json":
        plain.write_text(json.dumps(RECORDS, indent=2, ensure_ascii=False), encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(RECORDS)
        if suffix == ".parquet":
            pq.write_table(table, plain)
        else:
            with pa.OSFile(str(plain), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
                out.write_table(table)
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


@pytest.mark.parametrize(
    "kind",
    ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "arrow", "csv.gz", "jsonl.gz", "json.gz"],
)
def test_a_table_is_the_same_rows_in_every_format(kind, tmp_path):
    path = _write(tmp_path, kind)
    mapping = mapping_of(FIELDS, "bad,good")
    found = [list(read(path, "train", None, mapping)) for read in READERS]
    assert found[0] == found[1] == found[2] == list(sources.from_file(path, "train", mapping))
    assert [row.input for row in found[0]] == [
        'Blender: it "broke",\nsadly',
        ": fine\tthanks é",
        "Kettle: {body} leaks",
    ]
    assert [row.label for row in found[0]] == ["good", "bad", None]
    assert {row.choices for row in found[0]} == {("bad", "good")}
    assert [row.id for row in found[0]] == [f"rows/train/{number}" for number in range(3)]
    assert [row.extra.get("shop") for row in found[0]] == ["north", None, "south"]
    assert found[0][0].extra["Title"] == "Blender" and "stars" not in found[0][0].extra
    predicted = inputs.of_file(str(path), mapping=mapping)
    assert [(r.input, r.label) for r in predicted.rows] == [(r.input, r.label) for r in found[0]]
    assert predicted.described["fields"] == {
        "input": "{Title}: {body}",
        "label": "stars",
        "label_names": {"0": "bad", "1": "good"},
    }


def test_streams_take_the_same_mapping(tmp_path):
    mapping = mapping_of(FIELDS, "bad,good")
    for kind in ("csv", "tsv", "jsonl"):
        content = _write(tmp_path, kind).read_bytes().splitlines(keepends=True)
        rows = list(inputs.of_stdin(content, None, mapping).rows)
        assert [(row.id, row.label) for row in rows] == [
            ("stdin/0", "good"),
            ("stdin/1", "bad"),
            ("stdin/2", None),
        ]
    with pytest.raises(UserError, match="stdin cannot be Parquet"):
        inputs.of_stdin([b"PAR1"], "parquet")
    with pytest.raises(UserError, match="one text per line, which has no fields for --field"):
        inputs.of_stdin([b"a text"], "text", mapping)


BAD = {
    "rows.jsonl": [
        ('[{"input": "a"}]', r"rows\.jsonl:1: the file is a JSON array, expected JSONL.*\.json"),
        ('\n[\n{"input": "a"}]', r"rows\.jsonl:2: the file is a JSON array"),
        ('{"input": "a", "label": 1}', r"rows\.jsonl:1: got 1 for `label`.*LABEL_NAMES"),
        ('{"input": "a"}\n{"input": "caf\xe9"}', r"jsonl:2: not UTF-8: byte 0xe9 \('é' in W"),
        ("\xff\xfe{\0", r"rows\.jsonl is UTF-16, expected UTF-8.*iconv -f UTF-16 -t UTF-8"),
    ],
    "rows.csv": [
        ("input\n" + "a" * 131_073, r"rows\.csv:2: a cell of this row has more than 131,072 char"),
        ('input\na\n"b\n' + "c\n" * 70_000, r"rows\.csv:3: a cell .* double quote .*not closed"),
        (
            "input,label\na,b\ncaf\xe9,c\n",
            r"rows\.csv:3: not UTF-8: byte 0xe9 \('é' in Windows-1252",
        ),
        ("\xff\xfei\0n\0", r"rows\.csv is UTF-16"),
        ("PK\x03\x04junk", r"rows\.csv is a ZIP archive or an Excel workbook.*sheet as CSV"),
        (
            "text,label\na,b\n",
            r"rows\.csv:1: no column `input`; map the columns with --field input=COLUMN",
        ),
    ],
    "rows.tsv": [
        ("input\tlabel\na\tb\tc\n", r"rows\.tsv:2: got 3 cells.*contain tabs in double quotes"),
        ("input,label\na,b\n", r"rows\.tsv:1: .* by commas; expected tabs: rename it to .csv"),
        ('input\n"a" b\n', r"rows\.tsv:2: not TSV"),
    ],
    "rows.json": [
        ("[]", r"rows\.json has no rows; expected a JSON array of objects"),
        ('[{"input": "a"},\n 3]', r"rows\.json:2: got a JSON int in the array"),
        ('[{"input": "a"}\n{"input": "b"}]', r"rows\.json:2: not JSON \(expected a comma or \]"),
        ('[{"input": "a"},\n{"input": "b"', r"rows\.json:2: not JSON"),
        ('[{"input": "a"}] x', r"rows\.json:1: not JSON \(expected nothing after the array"),
        ('[{"input": "a", "input": "b"}]', r"rows\.json:1: the field 'input' occurs twice"),
        ('[\n{"input": "a"},\n{"input": ""}]', r"rows\.json:3: `input` is blank"),
        ("[" * 100_000, r"rows\.json:1: not JSON \(lists or objects nested too deeply"),
    ],
    "rows.parquet": [("no table", r"rows\.parquet is not a Parquet or Arrow file, or it is dama")],
    "rows.jsonl.gz": [("\x1f\x8b\x08rest", r"rows\.jsonl\.gz is damaged: it cannot be unpacked")],
}


@pytest.mark.parametrize(
    ("name", "case"), [(n, case) for n, cases in BAD.items() for case in cases]
)
def test_what_is_wrong_in_a_file_is_named(name, case, tmp_path):
    content, message = case
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    for read in (*READERS, lambda path, _: inputs.of_file(str(path))):
        with pytest.raises(UserError, match=message):
            list(read(tmp_path / name, "train"))


def test_a_file_that_is_no_rows_is_told_what_was_expected(tmp_path):
    (tmp_path / "notes.txt").write_text("the fan is loud\n")
    (tmp_path / "notes.jsonl").write_text("the fan is loud\n")
    (tmp_path / "photo.jsonl").write_bytes(b"\0\1\2\xff\n")
    for read in READERS:
        with pytest.raises(UserError, match=r"txt:1: not JSON, expected JSONL .*; a file of an"):
            list(read(tmp_path / "notes.txt", "train"))
        with pytest.raises(UserError, match=r"jsonl:1: not JSON \(.*\); expected one JSON"):
            list(read(tmp_path / "notes.jsonl", "train"))
        with pytest.raises(UserError, match=r"photo\.jsonl:1: not text: the line has a NUL byte"):
            list(read(tmp_path / "photo.jsonl", "train"))


def test_an_id_that_occurs_twice_is_named_in_streams_too(tmp_path):
    (tmp_path / "rows.json").write_text('[{"input": "a", "id": 1},\n{"input": "b", "id": 1}]')
    for read in READERS:
        with pytest.raises(
            UserError, match=r"rows\.json:2: duplicate id '1', already used in line 1"
        ):
            list(read(tmp_path / "rows.json", "train"))


def test_arrays_are_read_in_pieces_of_any_size(monkeypatch, tmp_path):
    path = _write(tmp_path, "json")
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(json_array, "_CHUNK", size)
        with open(path, encoding="utf-8") as file:
            records = list(json_array.array_records("rows", file))
        assert [fields for _, fields in records] == RECORDS
        assert [line for line, _ in records] == [2, 8, 14]


@pytest.mark.parametrize("kind", ["csv.gz", "json", "jsonl.gz", "parquet"])
def test_streaming_keeps_no_rows(kind, tmp_path, monkeypatch):
    """Ten times as many rows take about as much memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(arrow_rows, "_BUFFER", 1 << 14)
    monkeypatch.setattr(arrow_rows, "_BATCH", 64)
    peaks = []
    for count in (300, 3000):
        rows = [{"input": f"{number} " * 200, "label": "x"} for number in range(count)]
        text = {
            "csv.gz": "input,label\n" + "".join(f"{r['input']},x\n" for r in rows),
            "json": json.dumps(rows),
            "jsonl.gz": "".join(json.dumps(r) + "\n" for r in rows),
            "parquet": "",
        }[kind].encode()
        path = tmp_path / f"rows{count}.{kind}"
        if kind == "parquet":  # one row group
            table = pa.Table.from_pylist(rows)
            pq.write_table(
                table, path, use_dictionary=False, data_page_size=1 << 12, write_batch_size=16
            )
        else:
            path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
        tracemalloc.start()
        assert sum(1 for _ in tables.stream_table(path, "train")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000  # of a file of 3 MB


def test_hugging_face_folders(tmp_path):
    plain = mapping_of(("input=text", "label=label"))
    within = mapping_of(("input={text} ({verdicts/1/kind}, {day})", "choices=verdicts/kind"))
    for folder in (GOLDEN / "saved", GOLDEN / "parquet"):
        rows = tables.read_table(folder, "train", None, plain)
        assert [row.label for row in rows] == ["positive", "negative", "positive"]
        assert rows[0].choices == ("negative", "positive")
        assert rows[1].extra["day"] == "2024-05-01"
        assert rows[0].extra["answers"] == {"text": ["good film!", "good film?"]}
        test = tables.read_table(folder, "test", None, plain)
        assert [row.label for row in test] == [None, "positive"]
        rows = tables.read_table(folder, "train", None, within)
        assert [row.input for row in rows] == [
            "good film (strong, )",
            "bad film (strong, 2024-05-01)",
            "fine film (strong, 2024-05-01)",
        ]
        assert rows[0].choices == ("weak", "strong")
        with pytest.raises(UserError, match=r"has no split 'validation', only .*test"):
            tables.read_table(folder, "validation", None, plain)
    one = tables.read_table(GOLDEN / "saved" / "test", "train", None, plain)
    assert len(one) == 2 and one[0].id == "test/train/0"
    with pytest.raises(UserError, match=r"is a folder, expected a file, or a folder with state"):
        tables.read_table(tmp_path, "train")
    with pytest.raises(UserError, match=r"saved: no column `input`, only 'text', 'answers'"):
        tables.read_table(GOLDEN / "saved", "train", None, RowMapping())


def test_without_pyarrow_the_message_says_what_to_install(monkeypatch, tmp_path):
    path = _write(tmp_path, "parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"rows\.parquet needs the package pyarrow: install it"):
        tables.read_table(path, "train")


@pytest.mark.parametrize(
    ("content", "most"),
    [(b"", 0), (b"{}", 1), (b"{}\n{}\n", 2), (b"{}\n{}", 2), (gzip.compress(b"{}\n" * 500), 500)],
    ids=["empty", "no_line_end", "lines", "last_without_end", "compressed"],
)
def test_lines_bound_the_rows_of_jsonl(content, most, tmp_path, monkeypatch):
    for name, expected in ("r.jsonl", most), ("r", most), ("r.csv", None), ("r.parquet", None):
        (tmp_path / name).write_bytes(content)
        assert record_files.most_rows(tmp_path / name) == expected
    assert record_files.most_rows(tmp_path) is None
    monkeypatch.setattr(record_files, "_MOST_COUNTED", len(content) - 1)
    assert record_files.most_rows(tmp_path / "r.jsonl") is None
