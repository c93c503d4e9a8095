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


def test_labels_that_differ_by_a_space_are_noted(new, tmp_path):
    rows = [{"input": f"text {i}", "label": ("a b", "a b ", "c")[i % 3]} for i in range(60)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text)
    created, _ = new(tmp_path / "rows.jsonl")
    assert created["notes"] == [
        "labels that differ only in case, spaces or punctuation count as different: 'a b', 'a b '; "
        "write each label in one way"
    ]


def test_names_of_labels_take_the_place_of_numbers(files, new):
    created, folder = new(files / "tickets.csv", label_names="billing,shipping,repair")
    assert created["labels"] == ["billing", "shipping", "repair"]
    assert created["notes"] == []
    rows = read_jsonl(folder / "train.jsonl", "train")
    assert {row.label for row in rows} == {"billing", "shipping", "repair"}
    assert not any(row.choices for row in rows)


def test_numbers_without_names_are_noted(files, new):
    assert "the labels are numbers (0, 1, 2)" in new(files / "tickets.csv")[0]["notes"][0]


def test_rationales_of_the_file_can_be_trained_on(new, tmp_path, commands):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(20, rationale="it says so", teacher_label="no"))
    created, folder = new(tmp_path / "rows.jsonl")
    assert "`make train ROWS=train` trains on them" in created["notes"][0]
    assert "- 20 rationales; `make train ROWS=train`" in (folder / "README.md").read_text()
    row = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    assert (row["rationale"], row["teacher_label"]) == ("it says so", "no")
    (train,) = commands(folder, "train", "ROWS=train")
    assert "--gin.TRAIN_FILE=train.jsonl" in train and "--run_dir=runs/train" in train
    assert not any("LABEL_WEIGHT" in each for each in train)


def test_a_rehearsal_gives_the_weight_to_the_labels(files, new, commands):
    _, folder = new(files / "tickets.csv")
    (train,) = commands(folder, "train")
    assert "--gin.LABEL_WEIGHT=0.8" in train and "--gin.RATIONALE_WEIGHT=0.2" in train
    (folder / "annotated.jsonl").write_text("")
    (train,) = commands(folder, "train")
    assert not any("LABEL_WEIGHT" in each for each in train)


def test_truth_values_without_names_are_noted(new, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(20, labels=["True", "False"]))
    assert (
        "the labels are truth values (False, True)" in new(tmp_path / "rows.jsonl")[0]["notes"][0]
    )


def test_what_exists_is_left_alone(files, tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="task exists; `distill new` changes nothing"):
        create(Request(str(folder), str(files / "tickets.csv")))
    assert [path.name for path in tmp_path.iterdir()] == ["task"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_not_called_a_folder_to_remove(files):
    rows = files / "tickets.csv"
    with pytest.raises(UserError, match=r"exists; .*: choose another name$"):
        create(Request(str(rows), str(rows)))


def test_bad_rows_leave_no_folder(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "some long text here,a\n" * 20 + "x\n")
    with pytest.raises(UserError, match=r"rows.csv:22: got 1 cell,"):
        create(Request(str(tmp_path / "task"), str(tmp_path / "rows.csv")))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        (rows_of(9), {}, "has 9 rows, expected at least 10"),
        ([Example(f"r{n}", "same", "yes") for n in range(20)], {}, "all labeled rows have the sam"),
        (rows_of(20), {"labels": ("yes",)}, "gold label 'no' is not one of --labels"),
        (rows_of(20), {"field": ("label=lable",)}, "no row has the field 'lable'; closest: label"),
        (rows_of(20), {"field": ("input={input}\n",)}, "has a line break; a Makefile cannot"),
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


def test_fields_that_may_be_the_label_are_named(new, tmp_path):
    lines = (f"my item number {n} is late,{n % 3 if n % 9 else ''}" for n in range(60))
    (tmp_path / "rows.csv").write_text("\n".join(["text,Category Code", *lines]))
    created, folder = new(tmp_path / "rows.csv")
    told = "if the file has gold labels, name their field: --field 'label=Category Code'"
    assert told in created["notes"]
    readme = (folder / "README.md").read_text()
    assert "There are no exemplars" in readme and "FILL IN" not in readme


def test_a_test_file_is_taken_as_it_is(new, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(30))
    others = [Example(f"t{n}", f"test {n}", ("yes", "perhaps")[n % 2]) for n in range(6)]
    write_jsonl(tmp_path / "test.jsonl", others)
    created, folder = new(tmp_path / "rows.jsonl", test_input=str(tmp_path / "test.jsonl"))
    assert created["rows"] == {"train": 30, "test": 6}
    assert [row.id for row in read_jsonl(folder / "test.jsonl", "test")] == [r.id for r in others]
    assert created["labels"] == ["no", "yes", "perhaps"]


def test_test_rows_that_are_training_rows_are_counted(new, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(30))
    others = [Example(f"t{n}", f"test {n}", "yes") for n in range(6)]
    write_jsonl(tmp_path / "test.jsonl", [*rows_of(30)[:2], *others])
    created, _ = new(tmp_path / "rows.jsonl", test_input=str(tmp_path / "test.jsonl"))
    told = "2 of 8 test rows (25.0%) have the input of a row that the student trains on"
    assert told in created["notes"]


def test_the_rows_are_not_their_own_test_rows(new, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", rows_of(30))
    with pytest.raises(UserError, match="--test_input and --input are the same file"):
        new("rows.jsonl", test_input=str(tmp_path / "rows.jsonl"))
    assert not (tmp_path / "task").exists()


def test_long_inputs_are_cut_and_it_is_said(new, tmp_path):
    rows = [Example(f"r{n}", f"{n} " + "long " * 100 * (n % 5), "ab"[n % 2]) for n in range(50)]
    rows.append(Example("last", "word " * 1000, "a"))
    write_jsonl(tmp_path / "rows.jsonl", rows)
    created, _ = new(tmp_path / "rows.jsonl")
    cut = sum(len(row.input.encode()) + len("[rationale] ") + 1 > 1024 for row in rows)
    assert created["input_length"] == 1024
    assert created["notes"] == [
        f"{cut} of 51 inputs ({cut / 51:.1%}) are longer than INPUT_LENGTH = 1024 bytes and are "
        "cut; the longest has 5,013. A larger INPUT_LENGTH in data.gin makes training slower; "
        "--vocabulary_path makes sequences shorter"
    ]


@pytest.mark.parametrize("count", [3, 12])
def test_a_few_long_inputs_do_not_set_the_length_of_all(new, tmp_path, count):
    """12 of them are 4%, of which the largest limit, 1024, would cut all as well."""
    rows = rows_of(300)
    for n in range(0, 300, 300 // count):
        rows[n] = Example(f"long{n}", f"{n} " + "long " * 300, "yes")
    write_jsonl(tmp_path / "rows.jsonl", rows)
    created, folder = new(tmp_path / "rows.jsonl")
    # The others have "text number 299", the prefix "[rationale] " and the end of the text.
    assert created["input_length"] == 32
    (note,) = created["notes"]
    told = f"{count} of 300 inputs ({count / 300:.1%}) are"
    assert note.startswith(
        f"{told} longer than INPUT_LENGTH = 32 bytes and are cut; the longest has"
    )
    assert f"; {told} cut\n" in (folder / "data.gin").read_text()


@pytest.mark.parametrize(("words", "time"), [(10, "a minute"), (180, "6 minutes")])
def test_the_time_of_training_follows_the_length(new, tmp_path, words, time):
    """The times were measured on two cores, relative to each other."""
    rows = [Example(f"r{n}", f"{n} " + "words " * words, "ab"[n % 2]) for n in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    _, folder = new(tmp_path / "rows.jsonl")
    assert f"trains in about {time} on two cores" in (folder / "experiment.gin").read_text()
    assert f"trains for about {time}, with" in (folder / "README.md").read_text()


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
