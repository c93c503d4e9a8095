"""From the store to training rows and to the released layout, and back."""

from __future__ import annotations

import json

import pytest

from distill.data.examples import Example, Failure, read_jsonl
from distill.data.released import reader
from distill.data.released.premises import nli_input
from distill.errors import UserError
from distill.teacher import prompts
from distill.teacher.prices import Price
from distill.teacher.results import aggregate
from distill.teacher.results.export import write_released
from distill.teacher.results.filters import Filters
from distill.teacher.sampling import Digests, Sampling
from distill.teacher.storage.keys import key_of
from distill.teacher.storage.store import Store

CQA = "where {n} ?\nAnswer Choices:\n(a) sea\n(b) sky\n(c) sea"
ROWS = {
    "esnli": [
        Example(
            id=f"esnli/test/{n}",
            input=nli_input(f"A dog {n} sleeps.", "It rests."),
            label="entailment",
            choices=("entailment", "neutral", "contradiction"),
            split="test",
        )
        for n in range(6)
    ],
    "cqa": [
        Example(
            id=f"cqa/test/{n}",
            input=CQA.format(n=n),
            label="sky",
            choices=("sea", "sky"),
            split="test",
        )
        for n in range(6)
    ],
    "svamp": [
        Example(
            id=f"svamp/test/{n}",
            input=f"{n} geese.\nHow many ?",
            label="( 3.0 + 4.0 )",
            split="test",
        )
        for n in range(6)
    ],
}
SAID = {
    "esnli": [
        "Dogs rest.\nAnswer: entailment\n\nAnd then:\nAnswer: neutral",
        "Answer: neutral",
        "No idea.",
        "Well.\nAnswer: maybe",
        "",
        "It naps.\nAnswer: contradiction",
    ],
    "cqa": [
        "Blue. So the answer is (b) sky.\n\nQ: next ? So the answer is (a).",
        "(b) sky",
        "Hm. So the answer is (c).",
        "So the answer is (b) sea.",
        "",
        "So the answer is (b).",
    ],
    "svamp": [
        "3 and 4. The answer is (3 + 4).",
        "The answer is (2 + 5).",
        "The answer is x.",
        "Hm. The answer is ((3 + 4).",
        "",
        "4 more. The answer is 3 + 4 = 8.",
    ],
}


def _store(folder, rows, said, prompt, samples=1):
    """A store with an answer for each row and sample; None is a failure. Gives its digests."""
    digests = Digests(prompt, Sampling(model="m"))
    with Store(folder) as store:
        for index, row in enumerate(rows):
            for sample in range(samples):
                text = said[index * samples + sample]
                digest = digests.of(row)
                end = {"failure": "timeout", "message": ""}
                if text is not None:
                    end = {"completion": text, "usage": {"in": 100, "out": 10}}
                key = key_of(digest, sample)
                store.append({"key": key, "ok": text is not None, "id": row.id} | end)
    return digests


@pytest.mark.parametrize("dataset", ROWS)
def test_the_released_layout_reads_back_as_what_was_written(dataset, tmp_path):
    rows, prompt = ROWS[dataset], prompts.load_prompt(dataset)
    digests = _store(tmp_path / "s", rows, SAID[dataset], prompt)
    totals = aggregate.Totals()
    with Store(tmp_path / "s") as store:
        aggregated = list(aggregate.aggregate(rows, prompt, digests, 1, store, totals))
    write_released(tmp_path / "raw", dataset, "test", [s.readings[0] for s in aggregated])
    back = reader.read_released(tmp_path / "raw", dataset, "test")
    assert back == [s.row for s in aggregated]
    assert len({row.failure for row in back}) >= 3, "the rows should differ in their failures"
    assert totals.answered == 6 and totals.parsed == sum(r.teacher_label is not None for r in back)


def test_rows_that_the_layout_cannot_hold(tmp_path):
    with pytest.raises(UserError, match="unknown dataset 'tickets'"):
        write_released(tmp_path, "tickets", "train", [])
    with pytest.raises(UserError, match="unknown split 'valid'"):
        write_released(tmp_path, "cqa", "valid", [])
    with pytest.raises(UserError, match="row a has no gold label"):
        write_released(tmp_path, "svamp", "test", [(Example(id="a", input="x"), "")])
    with pytest.raises(UserError, match=r"expected 'premise: \.\.\. hypothesis"):
        write_released(tmp_path, "esnli", "test", [(Example(id="a", input="x", label="y"), "")])


def test_training_rows_dropped_rows_and_the_teacher(tmp_path):
    rows, prompt = ROWS["esnli"], prompts.load_prompt("esnli")
    yes, no = "It naps.\nAnswer: entailment", "It runs.\nAnswer: contradiction"
    other = "Dogs rest.\nAnswer: entailment"
    said = [
        yes,
        yes,
        other,  # three agree, two different reasons
        yes,
        no,
        "?",  # a third
        no,
        no,
        yes,  # two of three, wrong
        None,
        None,
        None,  # never answered
        None,
        yes,
        yes,
        "",
        "",
        "",
    ]
    digests = _store(tmp_path / "s", rows, said, prompt, samples=3)
    extra = Example(id="esnli/test/9", input=nli_input("Not asked.", "Yet."), split="test")
    totals = aggregate.Totals()
    with Store(tmp_path / "s") as store:
        aggregated = aggregate.aggregate([*rows, extra], prompt, digests, 3, store, totals)
        filters = Filters(min_agreement=0.6, gold_only=True, drop_unparsed=False)
        written = aggregate.write_annotated(
            tmp_path / "o.jsonl", aggregated, filters, prompt.same, 2
        )
    back = read_jsonl(tmp_path / "o.jsonl", "test")
    assert [row.id for row in back] == [f"esnli/test/{n}" for n in ("0", "0#1", "3", "4", "5")]
    assert [row.rationale for row in back] == ["It naps.", "Dogs rest.", None, "It naps.", None]
    assert back[2].failure == back[4].failure == Failure.NO_COMPLETION
    assert written["written"] == 5 and written["dropped"] == {"agreement": 1, "gold": 1}
    side = [json.loads(line) for line in (tmp_path / "o.dropped.jsonl").read_text().splitlines()]
    assert [(d["id"], d["dropped"], d["agreement"]) for d in side] == [
        ("esnli/test/1", "agreement", 0.3333),
        ("esnli/test/2", "gold", 0.6667),
    ]
    assert (totals.rows, totals.pending, totals.answered) == (7, 1, 5)
    assert totals.failed == {"timeout": 1}
    teacher = aggregate.teacher_row(totals, Price(10, 20))
    assert (teacher["accuracy"], teacher["n"]) == (3 / 6, 6)
    assert teacher["interval"][0] < 0.5 < teacher["interval"][1]
    assert teacher["parsed"] == 4 / 6
    tokens = 14 * (100 * 10 + 10 * 20) / 1e6
    assert teacher["cost_per_row"] == pytest.approx(tokens / 6)


def test_every_rationale_passes_the_filters_and_goes_with_its_own_completion(tmp_path):
    rows, prompt = ROWS["esnli"][:2], prompts.load_prompt("esnli")
    leak = "It is entailment, clearly.\nAnswer: entailment"
    naps, rests = "It naps.\nAnswer: entailment", "Dogs rest.\nAnswer: entailment"
    said = [leak, naps, leak, rests, leak, leak, leak, leak]
    digests = _store(tmp_path / "s", rows, said, prompt, samples=4)
    kept, totals = [], aggregate.Totals()
    with Store(tmp_path / "s") as store:
        aggregated = aggregate.aggregate(rows, prompt, digests, 4, store, totals)
        written = aggregate.write_annotated(
            tmp_path / "o.jsonl",
            aggregated,
            Filters(drop_leaks=True),
            prompt.same,
            3,
            lambda row, text: kept.append((row.id, row.rationale, text)),
        )
    back = read_jsonl(tmp_path / "o.jsonl", "test")
    assert [(row.id, row.rationale) for row in back] == [
        ("esnli/test/0", "It naps."),
        ("esnli/test/0#1", "Dogs rest."),
    ]
    assert kept == [("esnli/test/0", "It naps.", naps)]
    assert written["dropped"] == {"leakage": 1}


def test_half_a_surrogate_pair_of_a_completion_does_not_spoil_the_file(tmp_path):
    rows, prompt = ROWS["esnli"][:1], prompts.load_prompt("esnli")
    digests = _store(tmp_path / "s", rows, ["It \ud83d naps.\nAnswer: entailment"], prompt)
    with Store(tmp_path / "s") as store:
        aggregated = aggregate.aggregate(rows, prompt, digests, 1, store, aggregate.Totals())
        aggregate.write_annotated(tmp_path / "o.jsonl", aggregated, Filters(), prompt.same)
        (record,) = store.records()
    (row,) = read_jsonl(tmp_path / "o.jsonl", "test")
    assert row.rationale == "It \ufffd naps." and "\ud83d" in record["completion"]


def test_no_gold_no_teacher_row():
    assert aggregate.teacher_row(aggregate.Totals(rows=3), None) is None
