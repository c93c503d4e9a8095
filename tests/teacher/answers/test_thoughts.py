"""Thoughts are split from answers, wherever a model or a server puts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.examples import Example
from distill.teacher import prompts
from distill.teacher.answers import messages
from distill.teacher.answers.marks import end_at_turn
from distill.teacher.answers.problems import problem_of
from distill.teacher.answers.rationales import clean_thoughts
from distill.teacher.answers.settings import Reading
from distill.teacher.answers.thoughts import has_thoughts, split_thoughts

END = "\n\nIt is so.\nAnswer: neutral"
CONTENTS = {
    "none": (END, "", False),
    "tags": (f"<think>\nHm.\nAnswer: entailment\n</think>{END}", "Hm.\nAnswer: entailment", True),
    "empty tags": (f"<think>\n\n</think>{END}", "", True),
    "only a closing tag": (
        f"Hm.\nAnswer: entailment\n</think>{END}",
        "Hm.\nAnswer: entailment",
        True,
    ),
    "another name": (f"<THINKING>Hm.</THINKING>{END}", "Hm.", True),
    "brackets": (f"[THINK]Hm.[/THINK]{END}", "Hm.", True),
    "two": (f"<think>A.</think><think>B.</think>{END}", "A.\nB.", True),
    "a tag inside": (f"<think>What is <think>?</think>{END}", "What is <think>?", True),
    "two closing tags": (f"<think>A.</think> B.</think>{END}", "A.\nB.", True),
    "a prefix": (f"<mm:think>Hm.</mm:think>{END}", "Hm.", True),
    "spaces": (f"< think >Hm.</ think >{END}", "Hm.", True),
    "attributes": (f'<think time="3">Hm.</think>{END}', "Hm.", True),
    "entities": (f"&lt;think&gt;Hm.&lt;/think&gt;{END}", "Hm.", True),
    "scratchpad": (f"<scratchpad>Hm.</scratchpad>{END}", "Hm.", True),
    "nested": (
        f"<thinking>A.<reflection>B.</reflection>C.</thinking>{END}",
        "A.<reflection>B.\nC.",
        True,
    ),
    "start of turn": (f"<|im_start|>assistant\n<think>Hm.</think>{END}", "Hm.", True),
    "all channels": (
        "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        f"<|channel|>final <|constrain|>json<|message|>{END}<|return|>",
        "Hm.",
        True,
    ),
    "channels without tokens": (f"analysisHm.assistantfinal{END}", "Hm.", True),
    "one sided channel": (f"<|channel>thought\nHm.<channel|>{END}", "Hm.", True),
    "solution": (
        f"<|begin_of_thought|>Hm.<|end_of_thought|><|begin_of_solution|>{END}<|end_of_solution|>",
        "Hm.",
        True,
    ),
    "response": (
        f"<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>{END}<|END_RESPONSE|>",
        "Hm.",
        True,
    ),
    "final response": (f"Hm.\n[BEGIN FINAL RESPONSE]{END}\n[END FINAL RESPONSE]", "Hm.", True),
    "in words": (f"Here is my thought process: Hm.\nHere is my response:{END}", "Hm.", True),
    "channels": (
        f"<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>{END}",
        "Hm.",
        True,
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_thoughts_inside_the_content(case):
    content, thoughts, reasons = CONTENTS[case]
    said = split_thoughts(content)
    assert end_at_turn(said.answer).strip() == END.strip()
    assert (said.thoughts, said.reasons, said.unfinished) == (thoughts, reasons, False)
    assert has_thoughts({"completion": content}) == reasons
    row = Example(id="a", input="premise: a hypothesis: b")
    parsed = prompts.load_prompt("esnli").parse(row, content)
    assert (parsed.label, parsed.rationale, parsed.failure) == ("neutral", "It is so.", None)


def test_a_cut_thought_has_no_answer():
    said = split_thoughts("<think>So\nAnswer: neutral")
    assert (said.answer, said.thoughts, said.unfinished) == ("", "So\nAnswer: neutral", True)
    row = Example(id="a", input="premise: a hypothesis: b")
    assert prompts.load_prompt("esnli").parse(row, "<think>So\nAnswer: neutral").label is None


def test_an_answer_that_the_server_left_among_the_thoughts_is_found():
    said = split_thoughts("", f"Hm.</think>{END}")
    assert (said.answer, said.thoughts) == (END, "Hm.")


@given(st.text(alphabet="ab<>/think \n", max_size=60), st.text(max_size=20))
def test_no_word_is_lost(content, thoughts):
    said = split_thoughts(content, thoughts)
    assert (said.answer + said.thoughts).count("a") == (content + thoughts).count("a")


CHOICES = {
    "string": ({"content": "x"}, "x", ""),
    "null": ({"content": None, "reasoning_content": "t"}, "", "t"),
    "reasoning": ({"content": "x", "reasoning": "t"}, "x", "t"),
    "both fields": ({"content": "x", "reasoning": "t", "reasoning_content": "t"}, "x", "t"),
    "parts": (
        {"content": [{"type": "reasoning", "text": "t"}, {"type": "text", "text": "x"}]},
        "x",
        "t",
    ),
    "nested parts": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                {"type": "text", "text": "x"},
            ]
        },
        "x",
        "t",
    ),
    "typed parts": (
        {"content": [{"type": "reasoning.text", "text": "t"}, {"type": "text", "text": "x"}]},
        "x",
        "t",
    ),
    "summary": (
        {"content": [{"type": "reasoning", "summary": [{"text": "t"}]}, {"text": "x"}]},
        "x",
        "t",
    ),
    "an empty text": ({"content": [{"type": "thinking", "text": "", "thinking": "t"}]}, "", "t"),
    "an object": ({"content": {"text": "x"}, "reasoning": {"content": "t"}}, "x", "t"),
    "details": ({"content": "x", "reasoning_details": [{"text": "t"}]}, "x", "t"),
    "blocks": ({"content": "x", "thinking_blocks": [{"thinking": "t"}]}, "x", "t"),
    "odd": ({"content": [7, None, "x", {"type": "image"}], "reasoning": 7}, "x", ""),
}


@pytest.mark.parametrize("case", CHOICES)
def test_thoughts_beside_the_content(case):
    message, text, thoughts = CHOICES[case]
    choice = {"message": message}
    assert (messages.text_of(choice), messages.thoughts_of(choice)) == (text, thoughts)


@pytest.mark.parametrize(
    ("text", "thoughts", "finish", "reason"),
    [
        ("x", "", "length", None),
        ("", "", "length", "thought_too_long"),
        ("", "t", "length", "thought_too_long"),
        ("<think>t", "", "length", "thought_too_long"),
        ("<think>t", "", "", "thought_too_long"),
        ("<think>t", "", "stop", "thought_stopped"),
        ("<think>\n", "", "stop", "thought_stopped"),
        ("", "t", "stop", "empty_answer"),
        (" <|im_end|>", "", "stop", "empty_answer"),
        ("", "", "content_filter", "filtered"),
        ("<think>t</think> ", "", "stop", "empty_answer"),
        ("<think>t</think> x", "", "stop", None),
    ],
)
def test_content_without_an_answer_is_typed(text, thoughts, finish, reason):
    problem = problem_of(text, thoughts, finish)
    assert (problem and problem[0]) == reason


THOUGHTS = (
    "Okay, let me think.\n\n**A dog** sleeps. A dog sleeps. Wait. So it $rests$. "
    "The answer is neutral."
)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Reading(), "It is so."),
        (Reading(rationale="reasoning"), "A dog sleeps. So it rests."),
        (Reading(rationale="both"), "A dog sleeps. So it rests. It is so."),
        (Reading(rationale="reasoning", reasoning_words=4), "So it rests."),
        (Reading(rationale="reasoning", reasoning_words=2), "it rests."),
    ],
)
def test_the_rationale_is_of_the_answer_or_of_the_thoughts(how, expected):
    prompt = prompts.load_prompt("esnli", how)
    row = Example(id="a", input="premise: a hypothesis: b")
    for pair in ((f"<think>{THOUGHTS}</think>{END}", ""), (END, THOUGHTS)):
        found = prompt.read(row, *pair)
        assert (found.said.rationale, found.said.failure) == (expected, None)
        assert found.is_cut == (how.reasoning_words < 100)


def test_without_thoughts_the_reasoning_is_no_rationale():
    prompt = prompts.load_prompt("esnli", Reading(rationale="reasoning"))
    said = prompt.parse(Example(id="a", input="premise: a hypothesis: b"), END)
    assert (said.label, said.rationale, said.failure) == ("neutral", None, "no_rationale")


@given(
    st.lists(st.sampled_from(["One two.", "Hm!", "three", "\n"]), max_size=20), st.integers(1, 9)
)
def test_thoughts_keep_at_most_so_many_words(parts, most):
    text, cut = clean_thoughts(" ".join(parts), most)
    words = (text or "").split()
    assert len(words) <= most
    assert text is None or " ".join(" ".join(parts).split()).endswith(words[-1])
    assert not cut or words
