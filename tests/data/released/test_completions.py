"""The parser reads the last answer before the run-on and types what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.examples import Failure
from distill.data.released.completions import NLI_LABELS, Completion, parse_nli

RUN_ON = "\n\nPremise: A cat sits.\nHypothesis: It runs.\nReasonings: No.\nAnswer: entailment"
CASES = {
    "plain": ("A dog is no cat.\nAnswer: neutral", ("neutral", "A dog is no cat.", None)),
    "run-on": ("It may be.\nAnswer: neutral" + RUN_ON, ("neutral", "It may be.", None)),
    "no answer before the run-on": ("It may be." + RUN_ON, (None, None, "no_answer")),
    "starts with the run-on": (RUN_ON.strip(), (None, None, "no_answer")),
    "run-on in the line": (
        "It may. So the answer is neutral. Premise: B. So the answer is contradiction.",
        ("neutral", "It may.", None),
    ),
    "sentence": ("It is. So the answer is entailment.", ("entailment", "It is.", None)),
    "short sentence": ("It is. The answer is neutral", ("neutral", "It is.", None)),
    "colon and case": ("It is.\nANSWER IS: Neutral!", ("neutral", "It is.", None)),
    "last counts": (
        "A.\nAnswer: neutral\nB.\nAnswer: contradiction\n",
        ("contradiction", "A. B.", None),
    ),
    "first is no label": (
        "A. The answer is 71. So the answer is entailment.",
        ("entailment", "A.", None),
    ),
    "last is no label": ("A.\nAnswer: neutral\nAnswer: 71", (None, "A.", "label_outside_set")),
    "two labels": (
        "A.\nAnswer: neutral or entailment",
        (None, "A.", "label_outside_set"),
    ),
    "negated": ("A.\nAnswer: not entailment", (None, "A.", "label_outside_set")),
    "cut off in the label": ("A.\nAnswer: contra", (None, "A.", "label_outside_set")),
    "cut off before the label": ("A.\nAnswer:", (None, None, "no_answer")),
    "cut off on repeating": ("A.\nAnswer: neutral\nAnswer:", ("neutral", "A.", None)),
    "colon, then line break": ("A.\nAnswer:\nneutral", (None, None, "no_answer")),
    "with a reason": ("A.\nAnswer: neutral, since A.", ("neutral", "A.", None)),
    "answer only": ("Answer: neutral", ("neutral", None, "no_rationale")),
    "invalid answer only": ("Answer: yes", (None, None, "label_outside_set")),
    "the word in a sentence": (
        "He has an answer.\nAnswer: neutral",
        ("neutral", "He has an answer.", None),
    ),
    "premise in a sentence": (
        "The premise: it is so.\nAnswer: neutral",
        ("neutral", "The premise: it is so.", None),
    ),
    "broken off": ("A thing is a thing. A thing", (None, None, "no_answer")),
    "empty": (" \n", (None, None, "no_completion")),
}


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    text, (label, rationale, failure) = CASES[case]
    assert parse_nli(text) == Completion(label, rationale, failure)


SENTENCE = st.from_regex(r"[A-Z][a-z]{1,8}( [a-z]{1,6}){0,4}\.", fullmatch=True).filter(
    lambda text: "answer" not in text.lower()
)


@given(st.lists(SENTENCE, min_size=1, max_size=3), st.sampled_from(NLI_LABELS))
def test_well_formed_completions_give_back_what_was_put_in(sentences, label):
    rationale = " ".join(sentences)
    for answer in (f"\nAnswer: {label}", f" So the answer is {label}."):
        assert parse_nli(rationale + answer + RUN_ON) == Completion(label, rationale, None)


@given(st.text(alphabet="AaPQ:. \nanswer ispremutl", max_size=120))
def test_any_text_gives_a_label_of_the_set_or_a_failure(text):
    found = parse_nli(text)
    assert found.label is None or found.label in NLI_LABELS
    assert (found.label is None or found.rationale is None) == (found.failure is not None)
    assert found.failure is None or found.failure in set(Failure)
    assert found.rationale is None or found.rationale.strip()
