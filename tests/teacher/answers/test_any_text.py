"""Any text is read without an exception, in time linear in its length."""

from __future__ import annotations

import time

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.examples import Failure
from distill.data.released import equations
from distill.data.released.completions import parse_choice, parse_equation, parse_nli
from distill.teacher.answers.forms import Reader
from distill.teacher.answers.problems import problem_of
from distill.teacher.answers.rationales import clean_thoughts
from distill.teacher.answers.reading import read, read_up_to_stops
from distill.teacher.answers.thoughts import split_thoughts

CHOICES = ("sea", "bread and butter", "lake", "lake shore", "washington d.c.", "lake")
READERS = [Reader("nli"), Reader("choice", CHOICES), Reader("equation"), Reader("free")]
PIECES = (
    *("So the answer is", "The final answer is ", "Answer: ", "\nAnswer\n", "Label: ", "Premise :"),
    *("(a) ", "(c) lake", "B. ", "option b", "neutral", "entailment", "1,000", "(3 + 4)", "x = "),
    *("5 x 3 ", "\u00d7", "/ 0", ")", "(", ".", ",", "?", " or ", "and", "Q:", "so ", "the "),
    *("**", "*", "__", "~~", "`", "```\n", "```json\n", "# ", "- ", "\n1. a\n2. b", "> ", "---\n"),
    *("\\boxed{", "\\frac{", "\\text{", "}", "{", "\\(", "\\)", "\\", "$", "\\times", "\\$"),
    *("<think>", "</think>", "<|im_end|>", "<answer>", "</answer>", "<", '{"answer": "', '"', "["),
    *("\n", "\n\n", " ", "\t", "\u3000", "\uff1a", "hmm ", "ok, ", "\u2705", "\x00", "\ud800"),
)
STOPS, CUES = ("\n\n", "\nQ:"), ("Q:", "Answer Choices:")
some_text = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14).map("".join)


@hypothesis.settings(max_examples=80, deadline=None)
@given(some_text, some_text)
def test_any_text_gives_a_label_that_may_be_one_or_a_failure(text, thoughts):
    problem_of(text, thoughts, "stop")
    answer = split_thoughts(text, thoughts).answer
    clean_thoughts(text, 5)
    for reader in READERS:
        for said in (read(answer, reader), read_up_to_stops(answer, reader, STOPS, CUES, True)[0]):
            assert said.failure is None or said.failure in set(Failure)
            assert (said.failure is not None) or (said.label and said.rationale)
            assert said.rationale is None or said.rationale.strip()
            if said.label is not None and reader.labels:
                assert said.label in reader.labels
            if said.label is not None and reader.kind == "equation":
                assert equations.value(said.label) is not None


@hypothesis.settings(max_examples=80, deadline=None)
@given(some_text)
def test_a_label_of_the_released_readers_stays_the_label(text):
    for reader in READERS[:2]:
        label = reader.released(text).label
        assert label is None or "{" in text or "<" in text or read(text, reader).label == label


def _seconds(text: str) -> float:
    """CPU time of reading a text in every way."""
    began = time.thread_time()
    for reader in READERS:
        read_up_to_stops(text, reader, STOPS, CUES, lenient=True)
    clean_thoughts(split_thoughts(text).thoughts, 100)
    return time.thread_time() - began


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(["", "Answer: ", "x.\nAnswer: (a)"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=2),
)
def test_time_is_linear_in_the_length(start, parts):
    piece = "".join(parts)
    short, long = (start + piece * (size // len(piece)) for size in (2_000, 16_000))
    # Eight times the length: eight times the time if linear, 64 times if quadratic.
    assert _seconds(long) < 20 * max(_seconds(short), 0.05)


@pytest.mark.parametrize(
    "piece", ["\n", " ", "\n \t", ",", "Answer: (a)", "1 and ", "Q ", "*", "{"]
)
def test_one_completion_of_one_piece_is_read_at_once(piece):
    text = "Answer: (a)" + piece * (32_000 // len(piece))
    began = time.thread_time()
    for parse in (parse_nli, parse_equation, lambda t: parse_choice(t, CHOICES)):
        parse(text)
        parse(text.removeprefix("Answer: (a)"))
    assert time.thread_time() - began < 10  # quadratic: a minute
