"""Budgets are nested, exact, and independent of the order of the file."""

from __future__ import annotations

import dataclasses
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.budget import order, split_budget
from distill.data.examples import Example, Failure
from distill.data.row_file import take
from distill.errors import UserError

ROWS = [
    Example(id=f"r/{i}", input="x", label="a", teacher_label=None if i % 10 == 0 else "b")
    for i in range(1000)
]
OUTSIDE = [
    Example(id="none", input="x"),
    *(
        Example(id=f"o{i}", input="x", failure=Failure.LABEL_OUTSIDE_SET, outside_label=label)
        for i, label in enumerate(("yes", "no", "yes"))
    ),
]
FRACTIONS = st.integers(0, 99).map(lambda percent: percent / 100)


def ids(rows) -> set[str]:
    return {row.id for row in rows}


@settings(max_examples=60, deadline=None)
@given(st.integers(100, 1000), st.integers(100, 1000), FRACTIONS, st.integers(0, 99))
def test_a_smaller_budget_is_part_of_a_larger_one(a, b, fraction, seed):
    small, large = sorted((a, b))
    train_small, held_small, _ = split_budget(ROWS, small, fraction, seed, "gold")
    train_large, held_large, _ = split_budget(ROWS, large, fraction, seed, "gold")
    assert ids(train_small) <= ids(train_large)
    assert ids(held_small) <= ids(held_large)
    assert not ids(train_large) & ids(held_large)
    assert len(train_large) + len(held_large) == large
    assert len(held_large) == math.floor(large * Fraction(str(fraction)))


def test_the_files_order_does_not_matter_and_the_seed_does():
    shuffled = list(ROWS)
    random.Random(0).shuffle(shuffled)
    assert split_budget(ROWS, 250, 0.1, 0, "gold") == split_budget(shuffled, 250, 0.1, 0, "gold")
    ordered = take(ROWS, order(ROWS, 0))
    assert ordered == take(shuffled, order(shuffled, 0)) != ROWS
    shared = ids(split_budget(ROWS, 250, 0.1, 0, "gold")[0])
    shared &= ids(split_budget(ROWS, 250, 0.1, 1, "gold")[0])
    assert 20 < len(shared) < 90  # 225 * 225 / 1000 = 51 by chance


def test_rows_without_the_label_are_dropped_before_the_budget():
    train, held, counts = split_budget(ROWS, 800, 0.1, 0, "teacher")
    assert (counts.rows, counts.dropped, counts.train, counts.validation) == (1000, 100, 720, 80)
    assert all(row.teacher_label for row in train + held)
    # The gold budget takes the same rows in the same order, and those without a teacher label.
    gold = take(ROWS, order(ROWS, 0))
    assert [r for r in gold if r.teacher_label][:800] == [r for r in gold if r in train + held]


def test_zero_takes_all_rows():
    train, held, counts = split_budget(ROWS, 0, 0, 0, "gold")
    assert (len(train), held, counts.dropped) == (1000, [], 0)


def test_a_fraction_is_a_share_of_the_rows_with_the_label():
    for share, count in ((0.125, 112), (0.29, 261), (1.0, 900)):  # of 900, rounded down
        train, held, counts = split_budget(ROWS, 0, 0.1, 0, "teacher", label_fraction=share)
        assert (counts.dropped, len(train) + len(held)) == (100, count)
        same = split_budget(ROWS, count, 0.1, 0, "teacher")
        assert (train, held, counts) == same


def test_one_limit_at_a_time_and_one_that_can_be():
    settings = {"dataset": "any", "method": "finetune"}
    for share in (0.0, -0.1, 1.5):
        with pytest.raises(UserError, match=f"got LABEL_FRACTION = {share}, expected"):
            DataSpec(**settings, label_fraction=share)
    with pytest.raises(UserError, match="got both NUM_LABELS = 9 and LABEL_FRACTION"):
        DataSpec(**settings, label_fraction=0.5, num_labels=9)
    with pytest.raises(
        UserError, match=r"0.0001 of 1,000 rows is less than one row; raise .* least 0.001,"
    ):
        split_budget(ROWS, 0, 0.1, 0, "gold", label_fraction=0.0001)
    with pytest.raises(UserError, match=r"of 900 rows \(100 of 1000 .*to at least 0.001112,"):
        split_budget(ROWS, 0, 0.1, 0, "teacher", label_fraction=0.001)
    least = split_budget(ROWS, 0, 0.0, 0, "teacher", label_fraction=0.001112)
    assert len(least[0]) == 1


def test_caches_from_before_the_fraction_are_still_found():
    whole = DataSpec(dataset="any", method="finetune")
    # The digest of version 0.1.0, which had no LABEL_FRACTION.
    assert whole.digest() == "10e75bc98fc5009b"
    assert dataclasses.replace(whole, label_fraction=0.5).digest() != whole.digest()


@pytest.mark.parametrize(
    ("rows", "num_labels", "fraction", "source", "message"),
    [
        (ROWS, 1001, 0.1, "gold", "NUM_LABELS = 1001, but there are only 1,000 rows"),
        (ROWS, 901, 0.1, "teacher", r"only 900 rows \(100 of 1000 have no teacher label\)"),
        (ROWS, -1, 0.1, "gold", "NUM_LABELS = -1"),
        (ROWS, 9, 0.1, "gold", "no validation rows: VALIDATION_FRACTION = 0.1 of 9"),
        ([], 0, 0.1, "gold", "no training rows"),
        (ROWS[:1], 0, 0.0, "teacher", r"no training rows: 0 labels \(1 of 1"),
        (
            OUTSIDE,
            0,
            0.1,
            "teacher",
            r"^no training rows: 0 labels \(1 of 4 have no teacher label; 3 of 4 have a teacher "
            r"label that is not one of LABELS or of the row's `choices`: 'yes' \(2\), 'no' \(1\)\)"
            r".* or correct LABELS or `choices`$",
        ),
        (OUTSIDE[1:], 9, 0.1, "teacher", r"only 0 rows \(3 of 3 have a teacher label that is not"),
        (ROWS, 10, 1.0, "gold", "VALIDATION_FRACTION = 1.0"),
        (ROWS, 10, 0.1, "golden", "unknown label source 'golden'.*LABEL_SOURCE"),
    ],
)
def test_bad_budgets_are_named(rows, num_labels, fraction, source, message):
    with pytest.raises(UserError, match=message):
        split_budget(rows, num_labels, fraction, 0, source)


def test_more_labels_than_lines_are_refused_before_rows_are_read(tmp_path):
    import tasks  # noqa: F401  # registers jsonl

    path = tmp_path / "rows.jsonl"
    path.write_text("not JSON\n" * 9)
    spec = DataSpec("jsonl", "finetune", dataset_options={"train_file": path, "test_fraction": 0.2})
    for count in (0, 9):
        datasets.check_budget(dataclasses.replace(spec, num_labels=count))
    with pytest.raises(UserError, match=r"10, but .*rows.jsonl has at most 9 training rows; set "):
        datasets.check_budget(dataclasses.replace(spec, num_labels=10))


@pytest.mark.parametrize("source", ["gold", "teacher"])
def test_all_rows_are_not_advised_to_be_raised(source):
    """NUM_LABELS = 0 takes every row: there is nothing to raise."""
    for rows in ([], ROWS[:1]):
        with pytest.raises(UserError) as error:
            split_budget(rows, 0, 0.1, 0, source)
        assert "raise NUM_LABELS" not in str(error.value)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 3))
def test_a_group_is_on_one_side_for_every_budget(a, b, seed):
    rows = [Example(id=f"r{i}", input=f"premise {i // 3}", label="x") for i in range(180)]
    sides: dict[str, set[str]] = {}
    for n in (2 * a, 2 * b, 180):
        try:
            parts = split_budget(rows, n, 0.3, seed, "gold", lambda row: row.input)[:2]
        except UserError:
            continue  # so few labels that one side is empty
        for side, part in zip(("train", "validation"), parts, strict=True):
            for row in part:
                sides.setdefault(row.input, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    held = sum(found == {"validation"} for found in sides.values())
    assert 0.1 < held / 60 < 0.55


def test_rows_without_any_label_name_their_other_fields():
    rows = [dataclasses.replace(row, label=None, extra={"topic": "a"}) for row in ROWS[:4]]
    told = r"labels that exist; or map `label` in FIELDS \(other fields: 'topic'\)$"
    with pytest.raises(UserError, match=told):
        split_budget(rows, 0, 0.1, 0, "gold")
    rows[0] = dataclasses.replace(rows[0], label="x")  # some have one: FIELDS is right
    with pytest.raises(UserError, match=r"set LABEL_SOURCE to labels that exist$"):
        split_budget(rows, 0, 0.999, 0, "gold", group=lambda row: row.id)
