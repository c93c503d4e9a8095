"""Prompts: the project's own are sound, and what is wrong with a user's is named."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from distill import cli
from distill.data.examples import Example
from distill.data.released.premises import nli_input
from distill.errors import UserError
from distill.teacher import lint, prompts

NAMES = ["anli1", "cqa", "esnli", "svamp", "tickets"]
SMALL = """
name = "mine"
parser = "label"
labels = ["yes", "no"]
instructions = "Say."
input = "Q: {input}\\nA:"
completion = "{rationale} Answer: {label}"
stops = ["\\n\\n"]
[[exemplars]]
input = "is snow white ?"
rationale = "snow is frozen water that scatters light ."
label = "yes"
"""


def _written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, errors="surrogateescape")
    return str(path)


def test_the_project_has_these_prompts():
    assert prompts.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_own_prompts_have_ten_exemplars_that_parse_and_no_warning(name):
    found = lint.lint_prompt(prompts.load_prompt(name))
    assert found["exemplars"] == 10
    assert found["problems"] == found["warnings"] == []


def test_both_forms_hold_instructions_exemplars_and_the_question():
    prompt = prompts.load_prompt("esnli")
    row = Example(id="a", input=nli_input("A dog sleeps.", "An animal rests."))
    text, messages = prompt.text(row), prompt.messages(row)
    assert text.startswith(prompt.instructions)
    assert text.endswith("\n\nPremise: A dog sleeps.\nHypothesis: An animal rests.\nReason:")
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 10, "user"]
    assert messages[-1]["content"].endswith("Hypothesis: An animal rests.\nReason:")
    for exemplar in prompt.exemplars:
        shown = f"{exemplar.rationale}\nAnswer: {exemplar.label}"
        assert shown in text and {"role": "assistant", "content": shown} in messages


def test_choices_are_listed_once_wherever_they_come_from():
    prompt = prompts.load_prompt("cqa")
    listed = "where ?\nAnswer Choices:\n(a) sea\n(b) sky\n(c) sea"
    in_input = Example(id="a", input=listed, choices=("sea", "sky"))
    assert prompt.question(in_input) == f"Q: {listed}\nA:"
    beside = Example(id="b", input="where ?", choices=("sea", "sky"))
    assert prompt.question(beside) == "Q: where ?\nAnswer Choices:\n(a) sea\n(b) sky\nA:"
    assert prompt.parse(in_input, "It is blue. So the answer is (c).").label == "sea"


def test_braces_of_an_input_stay_as_they_are():
    prompt = prompts.load_prompt("svamp")
    row = Example(id="a", input="what is {0.__class__} and {choices} ?")
    assert prompt.question(row) == "Q: what is {0.__class__} and {choices} ?\nA:"


def test_a_completion_ends_at_a_stop_that_the_server_passed_over():
    prompt = prompts.load_prompt("tickets")
    row = Example(id="a", input="x", choices=("repair", "refuse"))
    said = prompt.parse(row, "\n\nbroken\nAnswer: repair\nTicket: y\nReason: z\nAnswer: refuse")
    assert (said.label, said.rationale, said.failure) == ("repair", "broken", None)


def test_free_labels_are_what_follows_the_answer_phrase(tmp_path):
    text = SMALL.replace('"label"', '"free"').replace('labels = ["yes", "no"]', "")
    prompt = prompts.load_prompt(_written(tmp_path, text))
    said = prompt.parse(Example(id="a", input="q"), "It is wet. Answer: take an umbrella.")
    assert (said.label, said.rationale) == ("take an umbrella", "It is wet.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("parser", "parsr"), "unknown field 'parsr'; closest: parser"),
        (('"label"', '"labl"'), "unknown parser 'labl'.*closest: label"),
        (('label = "yes"', 'label = "maybe"'), "'maybe'.*correct the label or `labels`"),
        (('label = "yes"', ""), "exemplar 1: `label` is missing"),
        (("{input}", "{inpt}"), r"slot \{inpt\}; closest: input"),
        (("{rationale}", "{reason}"), r"`completion` has an unknown slot \{reason\}"),
        (('instructions = "Say."', ""), "`instructions` is missing"),
        (('"Say."', "3"), "got 3 for `instructions`"),
        (('name = "mine"', 'name = "mine"\nmax_tokens = 0'), "max_tokens = 0"),
        (('name = "mine"', 'name = "mine"\ninput_pattern = "("'), "not a valid regular expression"),
        (
            ('name = "mine"', "name = "),
            r"\.toml:2: not TOML \(Invalid value, column 8\)\. A prompt is a TOML file with name, "
            r"parser, .*, completion, e\.g\. .*/prompts/tickets\.toml$",
        ),
        (('name = "mine"', 'name = "\udcff"'), r"\.toml:2: not UTF-8 .*\. A prompt is a TOML file"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        prompts.load_prompt(_written(tmp_path, SMALL.replace(*change)))


def test_unknown_prompts_and_rows_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r"closest: esnli"):
        prompts.load_prompt("e-snli")
    with pytest.raises(UserError, match=r"none\.toml does not exist"):
        prompts.load_prompt("/tmp/none.toml")
    with pytest.raises(UserError, match="row a: the input does not match input_pattern"):
        prompts.load_prompt("esnli").question(Example(id="a", input="no premise"))


def test_lint_finds_exemplars_that_do_not_parse_and_leaks(tmp_path):
    (sound,) = prompts.load_prompt(_written(tmp_path, SMALL)).exemplars
    prompt = prompts.load_prompt(_written(tmp_path, SMALL))
    assert lint.lint_prompt(prompt)["warnings"] == ["no exemplar has the label 'no'"]
    silent = dataclasses.replace(prompt, completion="{rationale} {label}")
    assert "no_answer" in lint.lint_prompt(silent)["problems"][0]
    stopped = dataclasses.replace(prompt, stops=("frozen",))
    assert re.search("exemplar 1", lint.lint_prompt(stopped)["problems"][0])
    told = dataclasses.replace(sound, rationale="The answer has to be Yes , as all know .")
    assert (
        "contains the label"
        in lint.lint_prompt(dataclasses.replace(prompt, exemplars=(told,)))["warnings"][0]
    )
    test_row = Example(id="t/7", input="Is SNOW white?")
    found = lint.lint_prompt(prompt, [Example(id="t/6", input="is coal white ?"), test_row])
    assert found["rows_compared"] == 2
    assert found["problems"] == ["exemplar 1 is also row t/7 of the rows to annotate"]
    several = lint.lint_prompt(prompt, [test_row] * 3)["problems"]
    assert several == ["exemplar 1 is also row t/7 and 2 other rows of the rows to annotate"]


def test_no_row_of_the_released_tests_is_an_exemplar(shared_dir):
    from distill.teacher.sources import from_released

    for name, split in (("cqa", "test"), ("svamp", "test"), ("anli1", "valid"), ("esnli", "valid")):
        rows = from_released(shared_dir / "data/distilling-step-by-step", name, split)
        assert lint.lint_prompt(prompts.load_prompt(name), rows)["problems"] == []


def test_gold_labels_that_the_prompt_cannot_read_are_refused_before_asking(tmp_path, capsys):
    rows = [{"input": f"my lamp {i} .", "label": label} for i, label in enumerate("abcdef")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ["annotate", f"--input={tmp_path}/rows.jsonl"]
    job = ["--prompt=tickets", "--model=m", f"--output={tmp_path}/o.jsonl", "--dry_run"]
    for flags in (["--check=tickets"], job):
        assert cli.main([*argv, *flags]) == 2
        told = capsys.readouterr().err
        assert "no gold label of the rows ('a', 'b', 'c', 'd', ...) is one of the labels" in told
    rows[5]["label"] = "refund"
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli.main([*argv, *job]) == 0
