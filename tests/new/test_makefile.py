"""The commands of the Makefile that `distill new` writes."""

from __future__ import annotations

import subprocess

from distill.config.resolve import resolve
from distill.data.examples import Example, write_jsonl
from distill.teacher.prompts import load_prompt


def test_new_rows_are_read_as_the_first_were(new, tmp_path, commands):
    rows = [Example(f"r{n}", f"text number {n}", ("yes", "no")[n % 2]) for n in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
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


def test_a_file_of_texts_has_no_fields(files, new, commands):
    _, folder = new(files / "tickets.csv")
    (mapped,) = commands(folder, "predict", "INPUT=new.csv")
    (plain,) = commands(folder, "predict", "INPUT=new.txt")
    assert any(text.startswith("--field=") for text in mapped)
    assert not any(text.startswith("--field=") for text in plain)
    assert "--input=new.txt" in plain


def test_a_file_of_new_rows_may_have_a_space_in_its_name(files, new, commands):
    _, folder = new(files / "tickets.csv")
    (arguments,) = commands(folder, "predict", "INPUT=../my rows.jsonl")
    assert "--input=../my rows.jsonl" in arguments
    assert arguments[-1] == "--output=runs/rehearsal-predictions-my rows.jsonl"


def test_other_labeled_rows_are_scored_as_the_first_ones_are_read(files, new, commands):
    _, folder = new(files / "tickets.csv")
    assert commands(folder, "evaluate") == [["evaluate", "--run_dir=runs/rehearsal"]]
    (arguments,) = commands(folder, "evaluate", "INPUT=other.csv")
    assert arguments[:3] == ["evaluate", "--run_dir=runs/rehearsal", "--input=other.csv"]
    (label,) = (text for text in arguments if text.startswith("--field=label="))
    assert label.removeprefix("--field=label=") in (files / "tickets.csv").read_text()


def test_rows_without_gold_labels(new, tmp_path, commands):
    rows = [Example(f"r{n}", f"text number {n}") for n in range(30)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    created, folder = new(tmp_path / "rows.jsonl", labels=("yes", "no"))
    assert created["rows"] == {"train": 30, "test": 0}
    assert created["labels"] == ["yes", "no"]
    assert created["commands"] == ["annotate", "train"]
    assert resolve(["experiment.gin"]).run.data.label_source == "teacher"
    assert load_prompt(str(folder / "prompt.toml")).exemplars == ()
    assert commands(folder, "evaluate", "INPUT=more rows.jsonl") == [
        ["evaluate", "--run_dir=runs/rehearsal", "--input=more rows.jsonl"]
    ]
    assert "the label is made up,\nas no row" in (folder / "README.md").read_text()
    (arguments,) = commands(folder, "predict", "INPUT=more rows.jsonl")
    assert arguments[:3] == ["predict", "--run_dir=runs/rehearsal", "--input=more rows.jsonl"]
    done = subprocess.run(["make", "predict"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and "give new rows with INPUT=FILE" in done.stderr
    told = (
        "| `make predict INPUT=FILE` | labels new rows, with the fields of `rows.jsonl` or, in a "
    )
    assert told in (folder / "README.md").read_text()


def test_the_label_of_new_rows_is_mapped_where_the_rows_have_none(new, tmp_path, commands):
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "t {n}"}}\n' for n in range(20)))
    _, folder = new(tmp_path / "rows.jsonl", field=("input=text",))
    for given, field in (((), "label"), (("LABEL_FIELD=gold answer",), "gold answer")):
        (arguments,) = commands(folder, "evaluate", "INPUT=new.jsonl", *given)
        assert arguments[2:] == [
            "--input=new.jsonl",
            "--field=input=text",
            f"--field=label={field}",
        ]
    (arguments,) = commands(folder, "predict", "INPUT=new.jsonl")
    assert "--field=label=label" not in arguments
