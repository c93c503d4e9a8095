"""The folder that `distill new` makes: what it holds, and what it leaves alone."""

from __future__ import annotations

import json
import pathlib
import tomllib

import pytest

from distill.config.resolve import resolve
from distill.convert.sizes import adopt_sizes
from distill.data.examples import Example, read_jsonl, write_jsonl
from distill.data.mapping.row_mapping import mapping_of
from distill.data.tables import read_table
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError
from distill.new.create import create
from distill.new.task import Request
from distill.teacher.lint import lint_prompt
from distill.teacher.prompts import load_prompt

CHECKPOINT = pathlib.Path(__file__).resolve().parents[1] / "golden" / "hf_loss"
QUESTION = "{question} Choices: (a) {options/0/text} (b) {options/1/text} (c) {options/2/text}"


def rows_of(number: int, **fields) -> list[Example]:
    """Rows with different inputs; a list of labels is taken in turn."""
    labels = fields.pop("labels", ["yes", "no"])
    return [
        Example(id=f"r{n}", input=f"text number {n}", label=labels[n % len(labels)], **fields)
        for n in range(number)
    ]


@pytest.mark.parametrize(
    ("name", "fields", "labels"),
    [
        ("tickets.csv", {"input": "{subject}: {message}", "label": "queue"}, ("0", "1", "2")),
        (
            "reviews.jsonl",
            {"input": "{review/title}: {review/body}", "label": "meta/sentiment"},
            ("bad", "good"),
        ),
        (
            "questions.parquet",
            {"input": QUESTION, "label": "answer", "choices": "options/text"},
            (),
        ),
    ],
)
def test_rows_settings_and_prompt_fit_the_file(files, new, name, fields, labels):
    created, folder = new(files / name)
    assert created["fields"] == fields
    assert tuple(created["labels"]) == labels

    mapping = mapping_of([f"{f}={t}" for f, t in fields.items()], created["label_names"])
    source = {row.id: row for row in read_table(files / name, "train", None, mapping)}
    train = read_jsonl(folder / "train.jsonl", "train")
    test = read_jsonl(folder / "test.jsonl", "test")
    # Each row is in one of the files, as the mapping reads it, with its other columns.
    assert sorted(row.id for row in [*train, *test]) == sorted(source)
    for row in [*train, *test]:
        given = source[row.id]
        assert (row.input, row.label, row.extra) == (given.input, given.label, given.extra)
    assert not {row.input for row in train} & {row.input for row in test}
    assert 0.1 < len(test) / len(source) < 0.3

    run = resolve(["experiment.gin"]).run
    assert tuple(run.data.dataset_options["labels"]) == labels
    longest = max(len(row.input.encode()) for row in source.values())
    # Whole inputs fit: prefix and EOS included, and less than a step of rounding more.
    assert longest + len(run.data.rationale_prefix) + 1 <= run.data.input_length < longest + 32

    prompt = load_prompt(str(folder / "prompt.toml"))
    assert prompt.labels == labels
    inputs = {row.input: row for row in train}
    assert prompt.exemplars
    assert all(inputs[each.input].label == each.label for each in prompt.exemplars)
    assert {each.label for each in prompt.exemplars} >= {*labels}
    assert lint_prompt(prompt, test)["problems"] == []


def test_names_of_labels_take_the_place_of_numbers(files, new):
    created, folder = new(files / "tickets.csv", label_names="billing,shipping,repair")
    assert created["labels"] == ["billing", "shipping", "repair"]
    assert created["notes"] == []
    rows = read_jsonl(folder / "train.jsonl", "train")
    assert {row.label for row in rows} == {"billing", "shipping", "repair"}
    assert not any(row.choices for row in rows)


def test_numbers_without_names_are_noted(files, new):
    assert "the labels are numbers (0, 1, 2)" in new(files / "tickets.csv")[0]["notes"][0]


def test_what_exists_is_left_alone(files, tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="task exists; `distill new` changes nothing"):
        create(Request(str(folder), str(files / "tickets.csv")))
    assert [path.name for path in tmp_path.iterdir()] == ["task"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_bad_rows_leave_no_folder(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "some long text here,a\n" * 20 + "x\n")
    with pytest.raises(UserError, match=r"rows.csv:22: got 1 cells"):
        create(Request(str(tmp_path / "task"), str(tmp_path / "rows.csv")))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        (rows_of(9), {}, "has 9 rows, expected at least 10"),
        ([Example(f"r{n}", "same", "yes") for n in range(20)], {}, "all labeled rows have the sam"),
        (rows_of(20), {"labels": ("yes",)}, "gold label 'no' is not one of LABELS"),
        (rows_of(20), {"field": ("input={input}\n",)}, "has a line break; a Makefile cannot"),
        (rows_of(20), {"field": ("label=label",)}, "the mapping also needs --field for `input`"),
    ],
)
def test_bad_input_is_named(tmp_path, rows, flags, message):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=message):
        create(Request(str(tmp_path / "task"), str(tmp_path / "rows.jsonl"), **flags))


@pytest.mark.parametrize("name", ["gs://bucket/task", "a b", "-x", "$(rm)"])
def test_a_name_is_a_folder_and_fit_for_commands(files, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"got the (name|folder) "):
        create(Request(name, str(files / "tickets.csv")))


def test_labels_of_any_text_survive_gin_toml_and_make(new, tmp_path):
    labels = ["it's", 'say "no"', "a\\b", "{x}", "$HOME", "#1", "üß", "del\x7f", "{{labels}}"]
    write_jsonl(tmp_path / "a $ # 'b.jsonl", rows_of(90, labels=labels))
    field = "input={input} $HOME # it's"
    created, folder = new(tmp_path / "a $ # 'b.jsonl", field=(field, "label=label"))
    assert created["labels"] == sorted(labels)
    assert resolve(["experiment.gin"]).run.data.dataset_options["labels"] == tuple(sorted(labels))
    prompt = tomllib.loads((folder / "prompt.toml").read_text())
    assert prompt["labels"] == sorted(labels)
    assert {row["label"] for row in prompt["exemplars"]} <= {*labels}


def test_new_rows_are_read_as_the_first_were(new, tmp_path, commands):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(30))
    field = "input={input} $HOME # it's"
    _, folder = new(tmp_path / "rows.jsonl", field=(field, "label=label"))
    (arguments,) = commands(folder, "predict", "INPUT=../rows.jsonl")
    # The label is not mapped: new rows have none.
    assert arguments[:4] == [
        "predict",
        "--run_dir=runs/rehearsal",
        "--input=../rows.jsonl",
        f"--field={field}",
    ]


def test_rows_without_gold_labels(new, tmp_path, commands):
    rows = [Example(f"r{n}", f"text number {n}") for n in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    created, folder = new(tmp_path / "rows.jsonl", labels=("yes", "no"))
    assert created["rows"] == {"train": 30, "test": 0}
    assert created["labels"] == ["yes", "no"]
    assert "evaluate" not in created["commands"]
    assert resolve(["experiment.gin"]).run.data.label_source == "teacher"
    assert load_prompt(str(folder / "prompt.toml")).exemplars == ()
    assert commands(folder, "evaluate", "INPUT=more.jsonl") == [
        ["evaluate", "--run_dir=runs/rehearsal", "--input=more.jsonl"]
    ]


def test_a_test_file_is_taken_as_it_is(new, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(30))
    others = [Example(f"t{n}", f"test {n}", ("yes", "perhaps")[n % 2]) for n in range(6)]
    write_jsonl(tmp_path / "test.jsonl", others)
    created, folder = new(tmp_path / "rows.jsonl", test_input=str(tmp_path / "test.jsonl"))
    assert created["rows"] == {"train": 30, "test": 6}
    assert [row.id for row in read_jsonl(folder / "test.jsonl", "test")] == [r.id for r in others]
    assert created["labels"] == ["no", "yes", "perhaps"]


def test_long_inputs_are_cut_and_it_is_said(new, tmp_path):
    rows = [Example(f"r{n}", f"{n} " + "long " * 100 * (n % 5), "ab"[n % 2]) for n in range(50)]
    rows.append(Example("last", "word " * 1000, "a"))
    write_jsonl(tmp_path / "rows.jsonl", rows)
    created, _ = new(tmp_path / "rows.jsonl")
    cut = sum(len(row.input.encode()) + len("[rationale] ") + 1 > 1024 for row in rows)
    assert created["input_length"] == 1024
    assert created["notes"] == [
        f"{cut} of 51 inputs are longer than INPUT_LENGTH = 1024 bytes and are cut; raise it in "
        "data.gin; --vocabulary_path makes sequences shorter"
    ]


@pytest.mark.parametrize("flag", ["init_from", "vocabulary_path"])
def test_lengths_are_counted_in_the_vocabulary_of_the_student(files, new, flag):
    value = CHECKPOINT if flag == "init_from" else CHECKPOINT / "spiece.model"
    created, folder = new(files / "reviews.jsonl", **{flag: str(value)})
    data = resolve(["experiment.gin"], adopt=adopt_sizes).run.data
    assert data.vocabulary == "sentencepiece"
    assert data.vocabulary_path == str(CHECKPOINT / "spiece.model")
    vocabulary = make_vocabulary("sentencepiece", data.vocabulary_path)
    rows = [
        *read_jsonl(folder / "train.jsonl", "train"),
        *read_jsonl(folder / "test.jsonl", "test"),
    ]
    longest = max(len(vocabulary.encode(data.rationale_prefix + row.input)) + 1 for row in rows)
    assert longest <= created["input_length"] < longest + 16


def test_the_command_prints_what_it_found(files, tmp_path, monkeypatch, capsys):
    from distill import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "task", f"--input={files / 'reviews.jsonl'}"]) == 0
    text = capsys.readouterr().out
    assert "input: {review/title}: {review/body}\nlabel: meta/sentiment\nlabels: bad, good" in text
    assert text.endswith("next: cd task && make check annotate train evaluate predict\n")
    assert cli.main(["new", "other", f"--input={files / 'reviews.jsonl'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "other"
