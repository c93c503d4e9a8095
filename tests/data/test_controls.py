"""RATIONALE_SOURCE: what each control gives, that it is seeded, and what it leaves alone."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.data import RATIONALE_SOURCES
from distill.config.resolve import resolve
from distill.data import datasets
from distill.data.controls import replace_rationales
from distill.data.examples import Example, write_jsonl
from distill.data.row_file import index_jsonl, one_rationale_each
from distill.data.several import count_rationales
from distill.errors import UserError

CONTROLS = [source for source in RATIONALE_SOURCES if source != "teacher"]


def rows(count: int, without: int = 7) -> list[Example]:
    """Rows with rationales of 1 to 5 words of their own; each `without`th has none."""
    return [
        Example(
            id=f"r/{i}",
            input=f"in {i}",
            label="a",
            rationale=None if i % without == 0 else " ".join(f"w{i}.{j}" for j in range(1 + i % 5)),
        )
        for i in range(count)
    ]


def by_id(given) -> dict[str, str | None]:
    return {row.id: row.rationale for row in given}


@settings(max_examples=30)
@given(st.integers(4, 60), st.integers(0, 5))
def test_shuffled_is_a_permutation_and_no_row_keeps_its_own(count, seed):
    before = by_id(rows(count))
    after = by_id(replace_rationales(rows(count), "shuffled", seed))
    assert sorted(filter(None, after.values())) == sorted(filter(None, before.values()))
    assert all(after[key] != text for key, text in before.items() if text is not None)
    assert [key for key in after if after[key] is None] == [k for k in before if before[k] is None]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 5))
def test_no_row_of_several_rationales_gets_one_of_its_own(numbers, seed):
    given = [
        Example(
            id=f"r#{i}",
            input="x",
            rationale=f"{i}" if m else None,
            more_rationales=tuple(f"{i}" for _ in range(m - 1)),
        )
        for i, m in enumerate(numbers)
    ]
    each = count_rationales(given)
    train = one_rationale_each(given, each)
    counts = np.repeat(each, each)
    total, most = sum(numbers), max(each)
    if total and 2 * most > total:
        with pytest.raises(UserError, match=r"1 training row has|expected at most half"):
            replace_rationales(train, "shuffled", seed, rationales=counts)
        return
    after = replace_rationales(train, "shuffled", seed, rationales=counts)
    assert collections.Counter(row.rationale for row in after) == collections.Counter(
        row.rationale for row in train
    )
    for before, row in zip(train, after, strict=True):
        assert row.rationale is None or row.rationale != before.rationale


def test_random_keeps_the_number_of_words_and_their_frequencies():
    given = [
        Example(id=str(i), input="x", label="a", rationale="b b c" if i % 2 else "b c d d")
        for i in range(4000)
    ]
    drawn = list(replace_rationales(given, "random", 3))
    lengths = [len(row.rationale.split()) for row in given]
    assert [len(row.rationale.split()) for row in drawn] == lengths
    counts = collections.Counter(" ".join(row.rationale for row in drawn).split())
    total = sum(counts.values())  # 14,000 draws, so 4 standard deviations are below 0.017
    assert {w: counts[w] / total for w in "bcd"} == pytest.approx(
        {"b": 3 / 7, "c": 2 / 7, "d": 2 / 7}, abs=0.017
    )
    assert drawn[1].rationale != drawn[3].rationale or drawn[5].rationale != drawn[7].rationale


def test_input_copies_the_input_without_marks():
    given = [Example(id="1", input="a </s>  b", label="x", rationale="r"), rows(1)[0]]
    (first, second) = replace_rationales(given, "input", 0, mark="</s>")
    assert (first.rationale, first.input, second.rationale) == ("a b", "a </s>  b", None)


@pytest.mark.parametrize("source", CONTROLS)
def test_a_control_depends_on_seed_and_ids_and_on_nothing_else(source, tmp_path):
    once = by_id(replace_rationales(rows(40), source, 1))
    write_jsonl(tmp_path / "rows.jsonl", rows(40))
    on_disk = replace_rationales(index_jsonl(tmp_path / "rows.jsonl", "train"), source, 1)
    assert by_id(on_disk) == once
    assert by_id(replace_rationales(rows(40)[::-1], source, 1)) == once
    if source != "input":
        assert by_id(replace_rationales(rows(40), source, 2)) != once


def test_slices_and_negative_numbers_are_those_of_a_list():
    changed = replace_rationales(rows(20), "shuffled", 0)
    assert changed[3:9:2] == list(changed)[3:9:2] and changed[-2] == list(changed)[-2]


def test_one_rationale_cannot_be_shuffled():
    with pytest.raises(UserError, match="only 1 training row has a rationale"):
        replace_rationales([Example(id="1", input="x", rationale="r")], "shuffled", 0)
    with pytest.raises(UserError, match=r"rationale source 'shufled'.*closest: shuffled"):
        replace_rationales(rows(3), "shufled", 0)


def test_only_the_training_rows_of_a_run_change():
    def splits(source: str) -> datasets.Splits:
        macros = [f"RATIONALE_SOURCE={source}", "NUM_LABELS=60"]
        return datasets.load_splits(resolve(["tickets_step_by_step"], macros).run.data)

    true, shuffled = splits("teacher"), splits("shuffled")
    assert true.validation == shuffled.validation and true.test == shuffled.test
    assert by_id(true.train) != by_id(shuffled.train)
    assert sorted(by_id(true.train).values()) == sorted(by_id(shuffled.train).values())
    for one, other in zip(true.train, shuffled.train, strict=True):
        assert (one.id, one.input, one.label) == (other.id, other.input, other.label)


def test_a_method_without_rationales_refuses_a_control():
    with pytest.raises(UserError, match=r"RATIONALE_SOURCE = 'random'.*the method reads no rat"):
        resolve(["tickets_finetune"], ["RATIONALE_SOURCE=random"])


def test_the_default_keeps_the_key_of_a_cache_and_a_control_has_its_own():
    digests = {
        source: resolve(["tickets_step_by_step"], [f"RATIONALE_SOURCE={source}"]).run.data.digest()
        for source in RATIONALE_SOURCES
    }
    assert len(set(digests.values())) == len(RATIONALE_SOURCES)
    assert digests["teacher"] == resolve(["tickets_step_by_step"]).run.data.digest()
