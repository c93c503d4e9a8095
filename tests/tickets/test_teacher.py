"""The simulated teacher is right as often as it should be, and consistent when wrong."""

from __future__ import annotations

import collections
import random
import time

import pytest

from distill.config.data import DataSpec
from distill.data import examples
from distill.data.examples import Example
from distill.errors import UserError
from distill.tickets import generator
from distill.tickets import teacher as simulated
from tasks import tickets

CLASSES_OF = {generator.rationale(cell): cell for cell in generator.CELLS}


@pytest.mark.parametrize("policy", generator.POLICIES)
def test_the_rationale_always_leads_to_the_label(policy):
    rows = generator.generate(policy, 4000, 0, "train")
    for row in simulated.annotate(rows, policy, 0.5, seed=1):
        assert generator.POLICIES[policy][CLASSES_OF[row.rationale]] == row.teacher_label


@pytest.mark.parametrize("policy", generator.POLICIES)
@pytest.mark.parametrize("accuracy", [0.0, 0.7, 0.867, 1.0])
def test_it_is_right_as_often_as_told(policy, accuracy):
    rows = generator.generate(policy, 10_000, 0, "train")
    annotated = simulated.annotate(rows, policy, accuracy, seed=2)
    assert examples.teacher_accuracy(annotated) == pytest.approx(accuracy, abs=0.015)
    right = [r for r in annotated if r.teacher_label == r.label]
    assert all(r.rationale == generator.rationale(generator.parse_ticket(r.input)) for r in right)


def test_its_time_is_linear_in_the_rows():
    rows = generator.generate("hard", 40_000, 0, "train")
    start = time.thread_time()
    simulated.annotate(rows, "hard", 0.7, seed=2)
    assert time.thread_time() - start < 20  # 0.4 s alone; pairs of rows would take minutes


def test_it_says_the_same_about_a_row_whatever_the_others_are():
    rows = generator.generate("hard", 600, 0, "train")
    whole = {row.id: row for row in simulated.annotate(rows, "hard", 0.6, seed=3)}
    some = rows[100:400]
    random.Random(0).shuffle(some)
    assert all(row == whole[row.id] for row in simulated.annotate(some, "hard", 0.6, seed=3))
    other = simulated.annotate(rows, "hard", 0.6, seed=4)
    assert sum(row != whole[row.id] for row in other) > 100


def test_a_better_teacher_keeps_its_right_answers():
    rows = generator.generate("hard", 600, 0, "train")
    weak = simulated.annotate(rows, "hard", 0.6, seed=3)
    strong = simulated.annotate(rows, "hard", 0.9, seed=3)
    assert all(s == w for s, w in zip(strong, weak, strict=True) if w.teacher_label == w.label)


def test_several_teachers_err_independently_and_the_label_is_that_of_the_first():
    rows = generator.generate("hard", 4000, 0, "train")
    first = simulated.annotate(rows, "hard", 0.7, seed=3)
    both = simulated.annotate(rows, "hard", (0.7, 0.7), seed=3)
    assert [r.teacher_label for r in both] == [r.teacher_label for r in first]
    assert [r.rationale for r in both] == [r.rationale for r in first]
    assert simulated.annotate(rows, "hard", [0.7], seed=3) == first
    disagree = [row for row in both if row.more_rationales]
    assert all(row.more_rationales != (row.rationale,) for row in disagree)
    # They agree if both are right, .49, or both wrong in the same way, which is rarer than .09.
    assert 0.42 <= len(disagree) / len(rows) <= 0.51 + 0.02
    second_is_right = 0
    for row in both:
        said = row.more_rationales[0] if row.more_rationales else row.rationale
        second_is_right += said == generator.rationale(generator.parse_ticket(row.input))
    assert second_is_right / len(rows) == pytest.approx(0.7, abs=0.025)


@pytest.mark.parametrize("value", [(), (0.5, "good"), (0.5, True), ((0.5,), 0.5), (0.5, 1.5)])
def test_accuracies_of_several_teachers_are_checked(value):
    options = {"policy": "hard", "num_rows": 4, "num_test": 4, "teacher_accuracy": value}
    spec = DataSpec(dataset="tickets", method="step_by_step", dataset_options=options)
    with pytest.raises(UserError, match=r"got TEACHER_ACCURACY = .*, expected a number"):
        tickets.check(spec)


def test_it_misreads_as_few_slots_as_it_takes():
    food_late = ("food", "dislike", "late")
    assert simulated.misreadings("hard", food_late) == (
        ("appliance", "dislike", "late"),
        ("clothing", "dislike", "late"),
        ("food", "damage", "late"),
        ("food", "dislike", "recent"),
    )
    # Under the natural policy all four neighbors are refused too: two slots it is.
    assert simulated.misreadings("natural", food_late) == (
        ("appliance", "damage", "late"),
        ("appliance", "dislike", "recent"),
        ("clothing", "damage", "late"),
        ("clothing", "dislike", "recent"),
        ("food", "damage", "recent"),
    )


def test_misreadings_are_drawn_uniformly():
    rows = generator.generate("natural", 30_000, 0, "train")
    rows = [r for r in rows if generator.parse_ticket(r.input) == ("food", "dislike", "late")]
    said = collections.Counter(
        row.rationale for row in simulated.annotate(rows, "natural", 0.0, seed=0)
    )
    assert len(said) == 5
    assert all(abs(n / len(rows) - 0.2) < 0.04 for n in said.values())


def test_other_fields_stay(tmp_path):
    (row,) = generator.generate("hard", 1, 0, "test")
    (said,) = simulated.annotate([row], "hard", 1.0, seed=0)
    assert (said.id, said.input, said.label, said.choices, said.split, said.failure) == (
        row.id,
        row.input,
        row.label,
        row.choices,
        row.split,
        None,
    )


@pytest.mark.parametrize("accuracy", [-0.1, 1.01, float("nan")])
def test_a_probability_is_wanted(accuracy):
    with pytest.raises(UserError, match="TEACHER_ACCURACY"):
        simulated.annotate([], "hard", accuracy, seed=0)


def test_bad_rows_and_policies_are_named():
    with pytest.raises(UserError, match="macro POLICY"):
        simulated.annotate([], "easy", 0.5, seed=0)
    with pytest.raises(UserError, match="DATASET = 'tickets'"):
        simulated.annotate([Example(id="a", input="premise: b")], "hard", 0.5, seed=0)
    with pytest.raises(UserError, match="row a has no gold label"):
        examples.teacher_accuracy([Example(id="a", input="b")])
    with pytest.raises(UserError, match="no rows"):
        examples.teacher_accuracy([])
