"""Invented completions, one for each way in which a teacher goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.examples import Failure
from distill.data.released import equations
from distill.data.released.completions import Completion, parse_choice, parse_equation

CHOICES = ("harbour", "bread and butter", "lake", "lake shore", "washington d.c.", "lake")
NEXT = "\n\nQ: Where do cats go?\nAnswer Choices:\n(a) bed\nA: Home. So the answer is (a) bed."
WHY = "Boats rest there."
CHOICE_CASES = {
    "plain": (f"{WHY} So the answer is (a) harbour.", ("harbour", WHY, None)),
    "run-on": (f"{WHY} So the answer is (a) harbour.{NEXT}", ("harbour", WHY, None)),
    "run-on before the answer": (f"{WHY}{NEXT}", (None, None, "no_answer")),
    "cut-off tail after the answer": (
        f"{WHY} So the answer is (a) harbour.\n\nQ: Where is the be",
        ("harbour", WHY, None),
    ),
    "cut off before the answer": (f"{WHY} So the ans", (None, None, "no_answer")),
    "cut off in the answer": (f"{WHY} So the answer is (", (None, WHY, "label_outside_set")),
    "cut off after the letter": (f"{WHY} So the answer is (a)", ("harbour", WHY, None)),
    "cut off in the text": (
        f"{WHY} So the answer is (b) bread",
        ("bread and butter", WHY, None),
    ),
    "no completion": ("\n ", (None, None, "no_completion")),
    "answer only": ("So the answer is (c) lake.", ("lake", None, "no_rationale")),
    "repeated": (
        f"{WHY} So the answer is (a) harbour. So the answer is (a) harbour.",
        ("harbour", WHY, None),
    ),
    "last counts": (
        f"{WHY} The answer is (c) lake. But no. So the answer is (a) harbour.",
        ("harbour", f"{WHY} But no.", None),
    ),
    "the last is reasoning": (
        f"{WHY} So the answer is none of them.",
        (None, WHY, "label_outside_set"),
    ),
    "an earlier phrase is reasoning": (
        "The answer is something wet. So the answer is (c) lake.",
        ("lake", "The answer is something wet.", None),
    ),
    "two answers": (f"{WHY} So the answer is (a) harbour or (c) lake.", ("harbour", WHY, "two")),
    "either of two": (
        f"{WHY} So the answer is either (a) harbour or (c) lake.",
        (None, WHY, "two"),
    ),
    "two texts": (f"{WHY} So the answer is harbour or lake.", (None, WHY, "two")),
    "two texts after a letter": (
        f"{WHY} So the answer is (a) harbour or lake.",
        ("harbour", WHY, "two"),
    ),
    "three answers": (
        f"{WHY} So the answer is (a) harbour, (c) lake, or (d) lake shore.",
        ("harbour", WHY, "two"),
    ),
    "letter without text": (f"{WHY} So the answer is (d).", ("lake shore", WHY, None)),
    "bare letter": (f"{WHY} So the answer is d.", ("lake shore", WHY, None)),
    "capital letter": (f"{WHY} So the answer is (D) Lake Shore.", ("lake shore", WHY, None)),
    "text without letter": (f"{WHY} So the answer is lake shore.", ("lake shore", WHY, None)),
    "a choice that says and": (
        f"{WHY} So the answer is bread and butter.",
        ("bread and butter", WHY, None),
    ),
    "text contradicts its letter": (
        f"{WHY} So the answer is (a) lake.",
        (None, WHY, "letter_text_mismatch"),
    ),
    "text is a longer choice": (
        f"{WHY} So the answer is (c) lake shore.",
        (None, WHY, "letter_text_mismatch"),
    ),
    "text is no choice": (f"{WHY} So the answer is (a) moon.", (None, WHY, "label_outside_set")),
    "letter beyond the choices": (
        f"{WHY} So the answer is (g) lake.",
        (None, WHY, "label_outside_set"),
    ),
    "denied": (f"{WHY} So the answer is not (a) harbour.", (None, WHY, "label_outside_set")),
    "misspelled": (f"{WHY} So the answer is (a) harbor.", ("harbour", WHY, None)),
    "duplicate choices": (f"{WHY} So the answer is (f) lake.", ("lake", WHY, None)),
    "both duplicates": (f"{WHY} So the answer is (c) lake or (f) lake.", ("lake", WHY, None)),
    "full stops in the choice": (
        f"{WHY} So the answer is (e) washington d.c.{NEXT}",
        ("washington d.c.", WHY, None),
    ),
    "loop in the reasoning": (
        f"{WHY} {WHY} {WHY} So the answer is (a) harbour.",
        ("harbour", WHY, None),
    ),
    "loop without end": (f"{WHY} " * 20 + "Boats re", (None, None, "no_answer")),
}
SUM = "He has 3 boxes of 4."
EQUATION_CASES = {
    "plain": (f"{SUM} The answer is (3 * 4).", ("(3 * 4)", SUM, None)),
    "run-on": (
        f"{SUM} The answer is (3 * 4).\n\nQ: And 5?\nA: The answer is (5).",
        ("(3 * 4)", SUM, None),
    ),
    "run-on before the answer": (f"{SUM}\n\nQ: A. The answer is (1).", (None, None, "no_answer")),
    "cut-off equation": (
        f"{SUM} The answer is ((3 * 4) - (1",
        (None, SUM, "unbalanced_parentheses"),
    ),
    "one parenthesis too many": (
        f"{SUM} The answer is (3 * 4)).",
        (None, SUM, "unbalanced_parentheses"),
    ),
    "cut off before the answer": (f"{SUM} The answer i", (None, None, "no_answer")),
    "nothing after the phrase": (f"{SUM} The answer is", (None, None, "no_answer")),
    "no completion": ("", (None, None, "no_completion")),
    "answer only": ("The answer is (3 * 4).", ("(3 * 4)", None, "no_rationale")),
    "last counts": (
        f"{SUM} The answer is (3 + 4). No. The answer is (3 * 4).",
        ("(3 * 4)", f"{SUM} No.", None),
    ),
    "operator after the parenthesis": (
        f"{SUM} The answer is (3 * 4) - 2.",
        ("(3 * 4) - 2", SUM, None),
    ),
    "no parentheses": (f"{SUM} So the answer is 3 * 4.", ("3 * 4", SUM, None)),
    "decimal point": (f"{SUM} The answer is 2.5 * 4. Good.", ("2.5 * 4", SUM, None)),
    "thousands comma": (f"{SUM} The answer is (11,210 / 5).", ("(11,210 / 5)", SUM, None)),
    "unit": (f"{SUM} The answer is (3 * 4) big boxes.", ("(3 * 4)", SUM, None)),
    "in x, solved": (f"{SUM} The answer is (3 * x = 12).", ("(3 * x = 12)", SUM, None)),
    "x is": (f"{SUM} The answer is x = 3 * 4.", ("x = 3 * 4", SUM, None)),
    "in x, open": (f"{SUM} The answer is (3 * x).", (None, SUM, "unsolved_equation")),
    "sides that differ": (f"{SUM} The answer is 3 * 4 = 13.", (None, SUM, "unsolved_equation")),
    "words": (f"{SUM} The answer is (many - 8).", (None, SUM, "malformed_equation")),
    "division by zero": (f"{SUM} The answer is (3 / (4 - 4)).", (None, SUM, "division_by_zero")),
    "two answers": (f"{SUM} The answer is (3 * 4) and (3 + 4).", (None, SUM, "two")),
    "two answers in one": (f"{SUM} The answer is (12, 7).", (None, SUM, "two")),
    "loop in the reasoning": (f"{SUM} {SUM} The answer is (3 * 4).", ("(3 * 4)", SUM, None)),
    "loop of the answer": (
        f"{SUM} " + "The answer is (3 * 4). " * 9 + "The answer is",
        ("(3 * 4)", SUM, None),
    ),
    "loop without end": (f"{SUM} " * 20 + "He ha", (None, None, "no_answer")),
}


def completion(label: str | None, rationale: str | None, failure: str | None) -> Completion:
    return Completion(label, rationale, "two_answers" if failure == "two" else failure)


@pytest.mark.parametrize("case", CHOICE_CASES)
def test_choice(case):
    text, expected = CHOICE_CASES[case]
    assert parse_choice(text, CHOICES) == completion(*expected)


@pytest.mark.parametrize("case", EQUATION_CASES)
def test_equation(case):
    text, expected = EQUATION_CASES[case]
    assert parse_equation(text) == completion(*expected)


PIECES = [
    "So the answer is",
    "The answer is ",
    "(a) ",
    "(c) lake",
    "harbour",
    "(3 + 4)",
    "x = ",
    ")",
    ".",
    " ",
    "\n",
    "Q:",
    "1,000",
    " or ",
    "/ 0",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_gives_a_usable_label_or_a_failure(text):
    chosen, solved = parse_choice(text, CHOICES), parse_equation(text)
    assert chosen.label is None or chosen.label in CHOICES
    assert solved.label is None or equations.value(solved.label) is not None
    for found in (chosen, solved):
        assert found.failure is None or found.failure in set(Failure)
        assert found.failure is not None or (found.label and found.rationale)
        assert found.rationale is None or found.rationale.strip()


@given(st.permutations(CHOICES[:5]), st.integers(0, 4))
def test_a_letter_means_the_choice_of_its_row(choices, index):
    text = f"{WHY} So the answer is ({'abcde'[index]}) {choices[index]}.{NEXT}"
    assert parse_choice(text, choices) == Completion(choices[index], WHY, None)
