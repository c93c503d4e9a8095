"""`distill annotate --rehearsal`: known labels, a marked rationale, nothing for a model."""

from __future__ import annotations

import pytest

from distill import cli
from distill.data.examples import Example, read_jsonl, write_jsonl
from distill.teacher.rehearsal import RATIONALE, UNFILLED
from distill.tickets.server import MODEL

PROMPT = """
name = "mine"
parser = "label"
labels = ["yes", "no"]
instructions = "Answer."
input = "Text: {input}\\nReason:"
completion = "{rationale}\\nAnswer: {label}"
stops = ["\\nText:"]

[[exemplars]]
input = "other"
rationale = "because"
label = "yes"
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with rows.jsonl and mine.toml, as working directory."""
    labels = ("no", "yes", "no", None)
    rows = [Example(f"r{n}", f"text {n}", label) for n, label in enumerate(labels)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "mine.toml").write_text(PROMPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


REHEARSE = ["annotate", "--rehearsal", "--input=rows.jsonl", "--prompt=mine.toml"]


def test_labels_are_copied_and_the_rationale_is_marked(mine, capsys):
    assert cli.main([*REHEARSE, "--output=out.jsonl"]) == 0
    rows = read_jsonl("out.jsonl", "train")
    # The last row has no label, and takes the most frequent one.
    assert [row.teacher_label for row in rows] == ["no", "yes", "no", "no"]
    assert [row.label for row in rows] == ["no", "yes", "no", None]
    assert {row.rationale for row in rows} == {RATIONALE}
    assert "rehearsal: copies of 3 gold labels, the most frequent label for 1 row without one" in (
        capsys.readouterr().out
    )


def test_a_rehearsal_says_which_answers_it_does_not_keep(mine, capsys):
    rows = [Example(f"r{n}", f"text {n}", teacher_label="no", rationale="why") for n in range(3)]
    write_jsonl(mine / "rows.jsonl", [*rows, Example("r3", "text 3")])
    assert cli.main([*REHEARSE, "--output=out.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "copies of 0 gold labels, a made-up label for 4 rows without one" in said
    assert "3 rows have a teacher label or a rationale already, which out.jsonl does not" in said


def test_a_rehearsal_keeps_no_store_and_no_model_job_takes_its_rows(mine, serve, capsys):
    assert cli.main([*REHEARSE, "--output=out.jsonl"]) == 0
    assert sorted(path.name for path in mine.iterdir()) == [
        "mine.toml",
        "out.jsonl",
        "out.jsonl.settings.json",
        "rows.jsonl",
    ]
    rehearsed = (mine / "out.jsonl").read_text()
    with serve(respond=lambda *_: "It is.\nAnswer: yes") as (_, url):
        ask = ["annotate", "--input=rows.jsonl", "--prompt=mine.toml", f"--model={MODEL}"]
        ask += [f"--base_url={url}", "--progress_seconds=0"]
        # A model's job does not replace rehearsed rows, and asks for each row elsewhere.
        assert cli.main([*ask, "--output=out.jsonl"]) == 2
        said = capsys.readouterr().err
        assert "out.jsonl exists and `distill annotate` did not write it" in said
        assert "`distill annotate --rehearsal` wrote it" in said
        assert (mine / "out.jsonl").read_text() == rehearsed
        assert cli.main([*ask, "--output=asked.jsonl"]) == 0
        assert {row.rationale for row in read_jsonl("asked.jsonl", "train")} == {"It is."}
    # Nor does a rehearsal replace what was paid.
    paid = (mine / "asked.jsonl").read_text()
    assert cli.main([*REHEARSE, "--output=asked.jsonl"]) == 2
    assert "`distill annotate --rehearsal` did not write it" in capsys.readouterr().err
    assert (mine / "asked.jsonl").read_text() == paid


def test_labels_that_the_parser_does_not_read_are_found_before_they_cost(mine, capsys):
    text = (mine / "mine.toml").read_text().replace("\\nAnswer: {label}", " I say {label}.")
    (mine / "mine.toml").write_text(text)
    assert cli.main([*REHEARSE, "--output=out.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "did not read back 4 labels (4 no_answer), the first 'no' of row r0" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=x"], "--model works only without --rehearsal"),
        (["--store=x"], "--store works only without --rehearsal"),
        (["--max_cost=1"], "--max_cost works only without --rehearsal"),
        (["--dry_run"], "got both --dry_run and --rehearsal"),
    ],
)
def test_flags_of_a_model_are_refused(mine, capsys, flags, message):
    assert cli.main([*REHEARSE, "--output=out.jsonl", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (mine / "out.jsonl").exists()


def test_a_prompt_that_is_not_filled_in_asks_no_model(mine, serve, capsys):
    text = (mine / "mine.toml").read_text().replace('"because"', f'"{UNFILLED}: the reason"')
    (mine / "mine.toml").write_text(text)
    with serve() as (endpoint, url):
        ask = ["annotate", "--input=rows.jsonl", "--prompt=mine.toml", f"--model={MODEL}"]
        assert cli.main([*ask, f"--base_url={url}", "--output=out.jsonl"]) == 2
        assert "the rationale of exemplar 1 begins with 'FILL IN'" in capsys.readouterr().err
        assert not endpoint.counts
    assert not (mine / "out.store").exists()
    # It can be rehearsed, shown, and checked, which says what is missing.
    assert cli.main([*REHEARSE, "--output=out.jsonl"]) == 0
    assert cli.main([*ask, "--dry_run"]) == 0
    assert cli.main(["annotate", "--check=mine.toml"]) == 0
    assert "exemplar 1: the rationale is not written yet" in capsys.readouterr().out


def test_the_output_is_asked_for_before_rows_are_read(mine, capsys):
    (mine / "rows.jsonl").write_text("no JSON\n")
    assert cli.main(REHEARSE) == 2
    assert "give the JSONL file to write with --output" in capsys.readouterr().err
