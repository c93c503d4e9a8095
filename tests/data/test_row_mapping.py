"""Templates, nested fields, names of labels, and several rationales of a row."""

from __future__ import annotations

import json

import pytest

from distill.config.data import DataSpec
from distill.config.stored import dump, load_stored
from distill.data import datasets, tables
from distill.data.mapping.row_mapping import TRAINED, mapping_of, mapping_of_settings
from distill.errors import UserError
from distill.inference import inputs
from tasks import jsonl

ROWS = [
    {
        "question": {"stem": "where is it ?", "options": [{"t": "sea"}, {"t": "sky"}]},
        "key": "B",
        "why": ["it flies", "it flies", " ", "clouds"],
        "label": "unused",
        "ID": 7,
    },
    {
        "question": {"stem": "what ?", "options": [{"t": "a"}, {"t": "b"}]},
        "key": 0,
        "why": None,
        "more": "because",
        "score": 0.5,
    },
]
NESTED = ("input={question/stem}", "choices=question/options/t", "label=key")


def _file(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _read(folder, rows, fields, names="", allowed=TRAINED, labels=None):
    return tables.read_table(
        _file(folder, rows), "train", labels, mapping_of(fields, names, allowed)
    )


def test_nested_fields_choices_and_the_label_as_their_letter_or_number(tmp_path):
    first, second = _read(tmp_path, ROWS, NESTED, "choices")
    assert (first.input, first.choices, first.label) == ("where is it ?", ("sea", "sky"), "sky")
    assert (second.choices, second.label) == (("a", "b"), "a")
    with pytest.raises(UserError, match=r"rows\.jsonl:1: got the label 'C', expected the number"):
        _read(tmp_path, [ROWS[0] | {"key": "C"}], NESTED, "choices")


def test_other_fields_are_carried_through_under_names_that_training_reads(tmp_path):
    """A row that is written and read again is the same: no name is taken for a field of ours."""
    first, second = _read(tmp_path, ROWS, NESTED, "choices")
    assert first.extra == {
        "question": ROWS[0]["question"],
        "why": ROWS[0]["why"],
        "row_label": "unused",
        "row_ID": 7,
    }
    assert second.extra["score"] == 0.5
    again = tables.read_table(_file(tmp_path, [first.to_dict()], "again.jsonl"), "train")
    assert again == [first]


def test_several_rationales_become_training_rows_that_count_as_one_label(tmp_path):
    fields = (*NESTED, "rationale=why", "rationale=more")
    first, second = _read(tmp_path, ROWS, fields, "choices")
    assert (first.rationale, first.more_rationales) == ("it flies", ("clouds",))
    assert (second.rationale, second.more_rationales) == ("because", ())
    for suffix in ("jsonl", "json"):  # rows that stay on disk, and rows in memory
        path = tmp_path / f"many.{suffix}"
        rows = [
            {"text": f"t{number}", "why": [f"a{number}", f"b{number}"][: 1 + number % 2], "y": "x"}
            for number in range(40)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(lines if suffix == "jsonl" else json.dumps(rows))
        options = {
            "train_file": str(path),
            "fields": {"input": "text", "label": "y", "rationale": "why"},
        }
        spec = DataSpec(
            "jsonl",
            "step_by_step",
            label_source="gold",
            num_labels=15,
            dataset_options=options | {"test_fraction": 0.2},
        )
        splits = datasets.load_splits(spec)
        assert splits.counts.train + splits.counts.validation == 15
        inputs_of = {row.input for row in splits.train}
        assert len(inputs_of) == splits.counts.train < len(splits.train)
        assert not inputs_of & {row.input for row in splits.validation}
        for row in splits.train:
            number = int(row.input[1:])
            assert row.rationale == f"{'b' if '#1' in row.id else 'a'}{number}"
        assert len({row.id for row in splits.train}) == len(splits.train)
        assert splits.train[-1] == list(splits.train)[-1] and len(splits.test)


@pytest.mark.parametrize(
    ("names", "values", "labels"),
    [
        (
            "no,yes",
            [0, 1, -1, None, 1.0, "1", " 0 "],
            ["no", "yes", None, None, "yes", "yes", "no"],
        ),
        ("no,yes", [False, True, "True", "yes"], ["no", "yes", "yes", "yes"]),
        ("true=on,false=off", [True, "False", "off"], ["on", "off", "off"]),
        ("3=a,7=b,-1=c", [7, "3", -1], ["b", "a", "c"]),
        ('["a, b", "c"]', [0, 1], ["a, b", "c"]),
        ('{"pos": "good", "neg": "bad"}', ["pos", "neg", float("nan")], ["good", "bad", None]),
    ],
)
def test_names_of_labels(names, values, labels, tmp_path):
    rows = [{"input": "x", "label": value} for value in values]
    found = _read(tmp_path, rows, (), names)
    assert [row.label for row in found] == labels
    assert len({row.choices for row in found}) == 1 and {*labels} - {None} <= {*found[0].choices}


@pytest.mark.parametrize(
    ("fields", "names", "message"),
    [
        (("input={txt}",), "", r"rows\.jsonl:1: the row has no field 'txt' .*closest: text"),
        (
            ("input=text", "label=gol"),
            "",
            r"--field label=gol: no row has the field 'gol'; closest: gold",
        ),
        (("input=about",), "", r"'about' for --field input=about is an object.*about/city"),
        (("input=tags",), "", r"'tags' for --field input=tags is a list.*tags/0"),
        (("input=text", "choices=text"), "", r"got 'a' in 'text' .*expected a JSON list"),
        (("input=text", "input=gold"), "", r"got two templates for `input`"),
        (
            ("input=text", "label=gold"),
            "no,yes",
            r"the label '5' has no name in --label_names, .*0, 1",
        ),
        (("input=text",), "no,1=yes", r"expected names only \(no,yes\) or a value before each"),
        (("input=text",), "no,no", r"expected distinct names"),
        (("input=text", "failure=gold"), "", r"unknown field 'failure'"),
    ],
)
def test_bad_templates_and_names(fields, names, message, tmp_path):
    rows = [{"text": "a", "gold": 5, "about": {"city": "x"}, "tags": ["u"]}]
    with pytest.raises(UserError, match=message):
        _read(tmp_path, rows, fields, names)


def test_a_row_without_a_field_of_its_input_is_refused_and_null_is_empty(tmp_path):
    rows = [{"title": "a", "body": "b"}, {"title": None, "body": "c"}]
    assert [row.input for row in _read(tmp_path, rows, ("input={title}|{body}",))] == ["a|b", "|c"]
    with pytest.raises(UserError, match=r"rows\.jsonl:3: the row has no field 'title'.*write null"):
        _read(tmp_path, [*rows, {"body": "d"}], ("input={title}|{body}",))


def test_columns_of_tables_are_checked_before_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("Ticket Text,e-mail\nhello,a@b\n")
    (row,) = tables.read_table(path, "train", None, mapping_of(["input={Ticket Text} ({e-mail})"]))
    assert row.input == "hello (a@b)"
    with pytest.raises(UserError, match=r"unknown column 'Ticket text' .*closest: Ticket Text"):
        tables.read_table(path, "train", None, mapping_of(["input=Ticket text"]))


def test_macros_and_flags_are_one_mapping():
    by_flags = mapping_of(
        ["input={a} {b}", "label=y", "rationale=r", "rationale=s"], "no,yes", TRAINED
    )
    fields = {"input": "{a} {b}", "label": "y", "rationale": ("r", "s")}
    for names in (("no", "yes"), ["no", "yes"]):
        by_macros = mapping_of_settings(fields, names)
        assert by_macros.described == by_flags.described
    for bad, message in (
        ("text", "got FIELDS = 'text', expected a dict"),
        ({"input": 3}, "got 3 for 'input' in FIELDS"),
        ({"label": "y"}, "FIELDS needs a template for `input`"),
        ({"inptu": "y"}, r"unknown field 'inptu' \(set by FIELDS\); closest: input"),
    ):
        with pytest.raises(UserError, match=message):
            mapping_of_settings(bad, ())
    with pytest.raises(UserError, match="`rationale`, which is used only in training"):
        mapping_of(["input=a", "rationale=r"])


def test_the_dataset_maps_fields_and_names_its_labels(tmp_path):
    path = _file(tmp_path, [{"text": f"t{n}", "gold": n % 2} for n in range(30)])
    options = {
        "train_file": str(path),
        "test_fraction": 0.3,
        "fields": {"input": "text", "label": "gold"},
        "label_names": ("even", "odd"),
    }
    spec = DataSpec("jsonl", "finetune", dataset_options=options)
    train, test = jsonl.DATASET.load(spec)
    assert len(train) + len(test) == 30
    assert {(int(row.input[1:]) % 2, row.label) for row in [*train, *test]} == {
        (0, "even"),
        (1, "odd"),
    }
    assert jsonl.DATASET.labels(spec) == ("even", "odd")
    by_value = options | {"label_names": {0: "even", 1: "odd"}}
    stored_options = load_stored(dump({"DATASET_OPTIONS": by_value}).encode(), "config.gin")
    again = DataSpec("jsonl", "finetune", dataset_options=stored_options["DATASET_OPTIONS"])
    assert list(jsonl.DATASET.load(again)[1]) == list(test)
    other = DataSpec("jsonl", "finetune", dataset_options=options | {"labels": ("a", "b")})
    with pytest.raises(
        UserError, match=r"got LABELS = \('a', 'b'\), but LABEL_NAMES has the names"
    ):
        jsonl.DATASET.check(other)


def test_other_mappings_are_other_rows(tmp_path):
    """A file of answers is not gone on with after another mapping."""
    path = str(_file(tmp_path, [{"a": "x", "b": "y"}]))
    one, two = (inputs.of_file(path, mapping=mapping_of([f"input={n}"])).described for n in "ab")
    assert one != two


def test_an_empty_input_names_the_field_that_was_mapped(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('Complaint Text,Category\n"my fan is late",a\n" ",b\n')
    message = r"rows\.csv:3: 'Complaint Text' for --field input=Complaint Text is empty"
    with pytest.raises(UserError, match=message):
        list(inputs.of_file(str(path), mapping=mapping_of(["input=Complaint Text"])).rows)
