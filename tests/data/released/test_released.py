"""The released layout is read whole, in order, or refused by name."""

from __future__ import annotations

import json
import pathlib

import pytest

from distill.data.budget import split_budget
from distill.data.examples import Example, read_jsonl, write_jsonl
from distill.data.released import premises, reader
from distill.errors import UserError

COMPLETIONS = ["It may.\nAnswer: neutral\n\nPremise: x", "So it is.\nAnswer: entailment", "No"]


def write_released(folder: pathlib.Path, num_rows: int = 12, parts: int = 12) -> pathlib.Path:
    """An invented e-SNLI validation split, one completion a part by default."""
    llm = folder / "esnli" / "llm"
    llm.mkdir(parents=True)
    rows = [
        {
            "premise": f"A man  cooks {row // 3} eggs. ",
            "hypothesis": f"He eats {row}.",
            "label": row % 3,
            "explanation_1": "",
        }
        for row in range(num_rows)
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    (folder / "esnli" / "esnli_valid.json").write_text(text + "\n")
    for part in range(parts):
        texts = [f"Row {part}.\nAnswer: neutral"]
        (llm / f"valid_CoT_{part}.json").write_text(json.dumps(texts))
    return folder


def test_rows_meet_their_completions_in_numeric_part_order(tmp_path):
    examples = reader.read_released(write_released(tmp_path), "esnli", "valid")
    assert [row.rationale for row in examples] == [f"Row {i}." for i in range(12)]
    assert examples[4].id == "esnli/valid/4"
    assert examples[4].input == "premise: A man cooks 1 eggs. hypothesis: He eats 4."
    assert [row.label for row in examples[:3]] == ["entailment", "neutral", "contradiction"]
    assert {row.split for row in examples} == {"valid"}


def test_summary_counts_rows_failures_and_the_teacher_over_all_rows(tmp_path):
    folder = write_released(tmp_path, num_rows=4, parts=0)
    texts = ["", "A.\nAnswer: neutral", "B.\nAnswer: 3", "Answer: entailment"]
    (folder / "esnli" / "llm" / "valid_CoT_0.json").write_text(json.dumps(texts))
    examples = reader.read_released(folder, "esnli", "valid")  # gold: 0, 1, 2, 0
    assert reader.summary(examples) == {
        "rows": 4,
        "completions": 3,
        "parsed": 2,
        "teacher_accuracy_all": 0.5,
        "failures": {"label_outside_set": 1, "no_completion": 1, "no_rationale": 1},
    }


def test_summary_without_gold_or_teacher():
    row = Example(id="a", input="b")
    assert reader.summary([row]) == {
        "rows": 1,
        "completions": 0,
        "parsed": 0,
        "teacher_accuracy_all": None,
        "failures": {},
    }


def test_no_premise_is_on_both_sides_and_sides_do_not_depend_on_other_rows(tmp_path):
    folder = write_released(tmp_path, num_rows=3000, parts=0)
    texts = ["A.\nAnswer: neutral"] * 3000
    (folder / "esnli" / "llm" / "valid_CoT_0.json").write_text(json.dumps(texts))
    examples = reader.read_released(folder, "esnli", "valid")
    train, test = premises.split_by_premise(examples)
    sides = [{premises.premise_of(row) for row in side} for side in (train, test)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 1000
    assert 150 <= len(sides[1]) <= 250  # 200 expected, standard deviation 13
    assert {row.id for row in train + test} == {row.id for row in examples}
    assert {row.split for row in train} == {"train"} and {row.split for row in test} == {"test"}
    _, fewer = premises.split_by_premise(examples[::-1][:1500])
    assert {row.id for row in fewer} <= {row.id for row in test}
    assert premises.split_by_premise(examples, seed=1)[1] != test


def broken(folder: pathlib.Path, change: str) -> tuple[str, str]:
    """Breaks one thing; returns (dataset, split) to read."""
    esnli, llm = folder / "esnli", folder / "esnli" / "llm"
    lines = (esnli / "esnli_valid.json").read_text().splitlines()
    if change == "no rows file":
        return "esnli", "train"
    if change == "no part at all":
        (esnli / "esnli_valid.json").rename(esnli / "esnli_test.json")
        return "esnli", "test"
    if change == "middle part":
        (llm / "valid_CoT_3.json").unlink()
    elif change == "last part":
        (llm / "valid_CoT_11.json").unlink()
    elif change == "part is no list":
        (llm / "valid_CoT_3.json").write_text('{"a": 1}')
    elif change == "part is no JSON":
        (llm / "valid_CoT_3.json").write_text("[")
    elif change == "label":
        lines[4] = lines[4].replace('"label": 1', '"label": -1')
    elif change == "label text":
        lines[4] = lines[4].replace('"label": 1', '"label": "neutral"')
    elif change == "label true":
        lines[4] = lines[4].replace('"label": 1', '"label": true')
    elif change == "hypothesis":
        lines[4] = lines[4].replace("hypothesis", "hypotesis")
    elif change == "row is no JSON":
        lines[4] = lines[4][:-3]
    elif change == "no rows":
        lines = []
    elif change == "dataset":
        return "esnil", "valid"
    elif change == "split":
        return "esnli", "validation"
    (esnli / "esnli_valid.json").write_text("\n".join(lines))
    return "esnli", "valid"


BROKEN = {
    "no rows file": r"esnli_train\.json does not exist; closest.* --raw_dir",
    "no part at all": r"test_CoT_0\.json does not exist; closest in its folder: .* --raw_dir",
    "middle part": r"valid_CoT_3\.json does not exist; .* --raw_dir",
    "last part": r"esnli_valid\.json has 12 rows, .*valid_CoT_\*\.json has 11 completions",
    "part is no list": r"valid_CoT_3\.json: expected a JSON list of strings",
    "part is no JSON": r"valid_CoT_3\.json: not JSON",
    "label": r"esnli_valid\.json:5: got label -1, expected one of 0 entailment, 1 neutral",
    "label text": r"esnli_valid\.json:5: got label 'neutral', expected one of 0 ent",
    "label true": r"esnli_valid\.json:5: got label True",
    "hypothesis": r"esnli_valid\.json:5: got None for `hypothesis`",
    "row is no JSON": r"esnli_valid\.json:5: not JSON",
    "no rows": r"esnli_valid\.json has no rows",
    "dataset": r"unknown dataset 'esnil' \(set by macro DATASET\); closest: esnli",
    "split": r"unknown split 'validation'.*valid",
}


@pytest.mark.parametrize("change", BROKEN)
def test_what_is_wrong_is_named(tmp_path, change):
    dataset, split = broken(write_released(tmp_path), change)
    with pytest.raises(UserError, match=BROKEN[change]):
        reader.read_released(tmp_path, dataset, split)


def test_split_by_premise_refuses_other_rows_and_empty_sides(tmp_path):
    examples = reader.read_released(write_released(tmp_path), "esnli", "valid")
    with pytest.raises(UserError, match="expected 'premise: "):
        premises.split_by_premise([Example(id="a", input="b")])
    with pytest.raises(UserError, match="expected at least one of each"):
        premises.split_by_premise(examples[:1])
    with pytest.raises(UserError, match="TEST_FRACTION = 1"):
        premises.split_by_premise(examples, test_fraction=1)


def test_the_authors_esnli_validation_split(shared_dir, tmp_path):
    raw_dir = shared_dir / "data" / "distilling-step-by-step"
    examples = reader.read_released(raw_dir, "esnli", "valid")
    found = reader.summary(examples)
    assert (found["rows"], found["completions"]) == (9842, 9842)
    assert found["parsed"] >= 0.9995 * 9842
    assert found["teacher_accuracy_all"] == pytest.approx(0.732, abs=0.01)
    assert not [row for row in examples if "answer:" in (row.rationale or "").lower()]
    train, test = premises.split_by_premise(examples)
    assert len(train) + len(test) == 9842
    assert not {*map(premises.premise_of, train)} & {*map(premises.premise_of, test)}
    _, _, counts = split_budget(train, 1000, 0.1, 0, "teacher")
    assert (counts.train, counts.validation) == (900, 100)
    write_jsonl(tmp_path / "train.jsonl", train)
    assert read_jsonl(tmp_path / "train.jsonl", "train") == train


def test_the_authors_anli_validation_split(shared_dir):
    raw_dir = shared_dir / "data" / "distilling-step-by-step"
    found = reader.summary(reader.read_released(raw_dir, "anli1", "valid"))
    assert found["rows"] == 1000 and found["parsed"] >= 995
    with pytest.raises(UserError, match=r"anli1_train\.json does not exist"):
        reader.read_released(raw_dir, "anli1", "train")


def test_the_premise_is_the_same_in_both_forms():
    row = Example(id="r", input=premises.nli_input("A dog  runs", "It moves"), label="neutral")
    assert (
        premises.premise_of(row) == premises.premise_of(premises.released_form(row)) == "a dog runs"
    )
