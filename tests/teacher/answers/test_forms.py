"""Answers as models write them: the label is read, and the rationale has no marks."""

from __future__ import annotations

import pytest

from distill.data.examples import Failure
from distill.teacher.answers.forms import Reader
from distill.teacher.answers.reading import read, read_up_to_stops

CHOICES = ("sea", "sky", "lake", "lake shore")
READERS = {
    "nli": Reader("nli"),
    "label": Reader("choice", ("shipping", "refund")),
    "cqa": Reader("choice", CHOICES),
    "letters": Reader("choice", ("A", "C", "D"), lettered=False),
    "numbers": Reader("choice", ("0", "1", "2"), lettered=False),
    "named": Reader("choice", ("not_entailment", "entailment", "C++"), lettered=False),
    "svamp": Reader("equation"),
    "free": Reader("free"),
}
WHY = "It is so."
# Prompt, what follows the rationale, label.
FORMS = [
    ("nli", "\nAnswer: neutral", "neutral"),
    ("nli", "\n**Answer**: neutral", "neutral"),
    ("nli", "\n**Answer:** neutral", "neutral"),
    ("nli", "\n**Answer: neutral**", "neutral"),
    ("nli", "\n__Answer:__ *neutral*", "neutral"),
    ("nli", "\n### Answer\nneutral", "neutral"),
    ("nli", "\n\n## Answer:\n\n**Neutral.**", "neutral"),
    ("nli", "\nAnswer:\nneutral", "neutral"),
    ("nli", "\n\n**Final Answer:**\n\nneutral", "neutral"),
    ("nli", "\n- Answer: neutral", "neutral"),
    ("nli", "\n* **Answer:** `neutral`", "neutral"),
    ("nli", "\n> Answer: neutral", "neutral"),
    ("nli", "\nAnswer\uff1aneutral", "neutral"),
    ("nli", "\nAnswer \uff1a neutral\u3002", "neutral"),
    ("nli", "\nFinal answer: neutral", "neutral"),
    ("nli", " The final answer is neutral.", "neutral"),
    ("nli", " Therefore, the correct answer is: **neutral**.", "neutral"),
    ("nli", " The best answer is neutral.", "neutral"),
    ("nli", "\nAnswer: NEUTRAL.", "neutral"),
    ("nli", "\nAnswer: Neutral!", "neutral"),
    ("nli", "\nAnswer = neutral", "neutral"),
    ("nli", "\nAnswer - neutral", "neutral"),
    ("nli", "\nAnswer \u2192 neutral", "neutral"),
    ("nli", "\nAnswer: neutral<|im_end|>", "neutral"),
    ("nli", "\nAnswer: neutral</s>", "neutral"),
    ("nli", "\nAnswer: neutral<|im_end|>\n<|im_start|>user\nAnswer: entailment", "neutral"),
    ("nli", "\n<answer>neutral</answer>", "neutral"),
    ("nli", "\n\u2705 **Answer:** neutral", "neutral"),
    ("nli", "\n---\n**Answer:** neutral", "neutral"),
    ("nli", "\n```\nAnswer: neutral\n```", "neutral"),
    ("nli", "\nRelationship: neutral", "neutral"),
    ("nli", "\n**Label:** Neutral", "neutral"),
    ("nli", "\nneutral", "neutral"),
    ("nli", "\n\n**Neutral**", "neutral"),
    ("nli", "\n$\\boxed{\\text{neutral}}$", "neutral"),
    ("label", "\n**Answer:** Refund.", "refund"),
    ("label", "\nAnswer: \u201crefund\u201d", "refund"),
    ("label", "\nAnswer: b.", "refund"),
    ("cqa", " So the answer is (b) sky.", "sky"),
    ("cqa", " So the answer is **(b) sky**.", "sky"),
    ("cqa", " So the answer is B. sky", "sky"),
    ("cqa", " So the answer is B. Sky.", "sky"),
    ("cqa", " So the answer is option B.", "sky"),
    ("cqa", " So the answer is option B: sky", "sky"),
    ("cqa", " So the answer is [b] sky.", "sky"),
    ("cqa", " So the answer is \\boxed{b}.", "sky"),
    ("cqa", " The correct option is (b) sky.", "sky"),
    ("cqa", "\nAnswer: b.", "sky"),
    ("cqa", "\nAnswer: (b)", "sky"),
    ("cqa", "\nAnswer: \uff08b\uff09sky", "sky"),
    ("cqa", "\nAnswer: b: sky", "sky"),
    ("cqa", "\nAnswer: B) sky", "sky"),
    ("cqa", "\n\\boxed{b}", "sky"),
    ("cqa", " \\boxed{\\text{(b) sky}}", "sky"),
    ("cqa", "\n**(b) sky**", "sky"),
    ("cqa", " **(b) sky**", "sky"),
    ("cqa", " B. sky", "sky"),
    ("cqa", "\noption B", "sky"),
    ("cqa", " [b] sky", "sky"),
    ("cqa", "\nAnswer: (d) lake shore", "lake shore"),
    ("svamp", " The answer is 5 + 3.", "5 + 3"),
    ("svamp", " The answer is $5 + 3$.", "5 + 3"),
    ("svamp", " The answer is \\(5 + 3\\).", "5 + 3"),
    ("svamp", "\n\\[5 + 3 = 8\\]", "5 + 3 = 8"),
    ("svamp", " The answer is **5 + 3**.", "5 + 3"),
    ("svamp", " The answer is `5 + 3`.", "5 + 3"),
    ("svamp", " The answer is $\\boxed{8}$.", "8"),
    ("svamp", "\n\\boxed{8}", "8"),
    ("svamp", " $5 + 3$", "5 + 3"),
    ("svamp", " **5 + 3**", "5 + 3"),
    ("svamp", " The answer is 5 x 3.", "5 * 3"),
    ("svamp", " 5 x 3", "5 * 3"),
    ("svamp", " The answer is 5 \u00d7 3.", "5 * 3"),
    ("svamp", " The answer is 6 \u00f7 3.", "6 / 3"),
    ("svamp", " The answer is 6 \u2212 3.", "6 - 3"),
    ("svamp", " The answer is 6 \u2013 3.", "6 - 3"),
    ("svamp", " The answer is $5 \\times 3$.", "5 * 3"),
    ("svamp", " The answer is $\\frac{10}{2}$.", "(10 / 2)"),
    ("svamp", " The answer is $\\frac{10 + 2}{3}$.", "((10 + 2) / 3)"),
    ("svamp", " The answer is $5 + $3 = $8.", "$5 + $3 = $8"),
    ("svamp", " The answer is 2 x = 14.", "2 x = 14"),
    ("svamp", " The answer is 5*3*2.", "5*3*2"),
    ("nli", '\nAnswer: "neutral".', "neutral"),
    ("nli", "\nAns: neutral", "neutral"),
    ("nli", "\n[Answer] neutral", "neutral"),
    ("nli", "\n\u3010Answer\u3011neutral", "neutral"),
    ("nli", "\n[Answer: neutral]", "neutral"),
    ("nli", '\n"Answer": "neutral"', "neutral"),
    ("nli", "\n| Answer | neutral |", "neutral"),
    ("nli", "\n<label>neutral</label>", "neutral"),
    ("nli", "\nAnswer: The relationship is neutral.", "neutral"),
    ("nli", "\nAnswer: it is neutral", "neutral"),
    ("nli", "\nAnswer: 1. neutral", "neutral"),
    ("nli", "\n2. Answer: neutral", "neutral"),
    ("nli", "\nStep 3: Answer: neutral", "neutral"),
    ("nli", "\nConclusion: The answer is neutral.", "neutral"),
    ("nli", "\nThe relationship is neutral.", "neutral"),
    ("nli", " Therefore: neutral", "neutral"),
    ("nli", "\n\u2192 neutral", "neutral"),
    ("nli", "\nPredicted label: neutral", "neutral"),
    ("nli", "\nFinal Verdict: neutral", "neutral"),
    ("nli", "\nA: neutral", "neutral"),
    ("nli", "\n\u7b54\u6848\uff1aneutral", "neutral"),
    ("nli", "\nAnswer: neutral<|user|>\nAnswer: entailment", "neutral"),
    ("nli", "\nAnswer: neutral<|eot_id|><|start_header_id|>user\nAnswer: entailment", "neutral"),
    ("nli", "\nAnswer: neutral\n\nHuman: And this?\nAnswer: entailment", "neutral"),
    ("nli", "\nAnswer: neutral\nUser: x\nAnswer: entailment", "neutral"),
    ("label", "\nAnswer: refund, because it broke", "refund"),
    ("label", "\nAnswer: label: refund", "refund"),
    ("label", "\nThe category is refund.", "refund"),
    ("label", "\nIntent: refund", "refund"),
    ("letters", "\nAnswer: (C)", "C"),
    ("letters", "\nAnswer: option D", "D"),
    ("letters", "\n**Answer:** [c]", "C"),
    ("numbers", "\nAnswer: (1)", "1"),
    ("numbers", "\nAnswer: label 1", "1"),
    ("numbers", "\nAnswer: 1 - technical", "1"),
    ("numbers", "\nAnswer: 1 (technical)", "1"),
    ("named", "\nAnswer: not entailment", "not_entailment"),
    ("named", "\n**Answer:** not\\_entailment", "not_entailment"),
    ("named", "\nAnswer: C++.", "C++"),
    ("cqa", "\n**Answer:** (B)", "sky"),
    ("cqa", "\nAnswer: the answer is (b) sky", "sky"),
    ("cqa", "\nAnswer: The sky", "sky"),
    ("cqa", "\nAnswer: (b) sky \u2705", "sky"),
    ("cqa", "\nTherefore, (b) sky is the correct answer.", "sky"),
    ("cqa", "\nThe final answer is: $\\boxed{\\text{b}}$. I hope it is correct.", "sky"),
    ("svamp", "\nThe equation is: 5 + 3", "5 + 3"),
    ("svamp", "\n#### 8", "8"),
    ("free", "\n**Answer:** take an *umbrella*.", "take an umbrella"),
    ("free", "\nAnswer:\n`a_b_c`", "a_b_c"),
    ("free", "\n\\boxed{yes}", "yes"),
]


@pytest.mark.parametrize(("kind", "end", "label"), FORMS)
def test_label_and_rationale_of_a_form(kind, end, label):
    said = read(WHY + end, READERS[kind])
    assert (said.label, said.rationale, said.failure) == (label, WHY, None)


JSON = [
    ("nli", '{"rationale": "It is so.", "answer": "neutral"}'),
    ("nli", '```json\n{\n  "rationale": "It is\n so.",\n  "Answer": "**Neutral**."\n}\n```'),
    ("nli", 'Sure:\n```\n{"reason": "It is so.", "final_answer": "neutral"}\n```\nDone.'),
    ("nli", 'Here it is.\n{"explanation": ["It is", "so."], "label": ["neutral"]} <|im_end|>'),
    ("nli", '{"reasoning": "It is so. The answer is not clear", "answer": "neutral"}'),
    ("nli", 'Sure! {"rationale": "It is so.", "answer": "neutral"} Done.'),
    ("nli", '```json {"rationale": "It is so.", "answer": "neutral"} ```'),
    ("nli", '[{"rationale": "It is so.", "answer": "neutral"}]'),
    ("nli", '{"response": {"rationale": "It is so.", "answer": "neutral"}}'),
    ("nli", '{"rationale": "It is so.", "answer": "neutral",}'),
    ("nli", "{'rationale': 'It is so.', 'answer': 'neutral'}"),
    ("nli", '{rationale: "It is so.", answer: "neutral"}'),
    ("nli", '{"chain_of_thought": "It is so.", "predicted_label": "neutral"}'),
    ("nli", 'It is so.\nHere it is:\n```json\n{"label": "neutral"}\n```'),
]


@pytest.mark.parametrize(("kind", "text"), JSON)
def test_label_and_rationale_of_json(kind, text):
    said = read(text, READERS[kind])
    assert said.label == "neutral" and said.failure is None
    assert said.rationale.startswith(WHY) and "{" not in said.rationale


@pytest.mark.parametrize(
    ("kind", "text", "label"),
    [
        ("cqa", '{"answer": {"letter": "b", "text": "sky"}}', "sky"),
        ("cqa", '{"answer": "B"}', "sky"),
        ("svamp", '{"equation": "5 \u00d7 3"}', "5 * 3"),
        ("svamp", '{"answer": 8}', "8"),
        ("free", '{"answer": "Take it. Now."}', "Take it. Now"),
    ],
)
def test_json_without_a_rationale(kind, text, label):
    said = read(text, READERS[kind])
    assert (said.label, said.rationale, said.failure) == (label, None, Failure.NO_RATIONALE)


def test_backslashes_of_latex_in_json_are_not_those_of_json():
    text = r'{"rationale": "It is $5 \times 3$, not \frac{6}{3}.", "answer": "5 \times 3"}'
    said = read(text, READERS["svamp"])
    assert (said.label, said.rationale) == ("5 * 3", "It is 5 * 3, not (6 / 3).")


def test_an_object_that_the_text_quotes_is_no_answer():
    text = 'The log has {"label": "shipping"} in it.\nAnswer: refund'
    assert read(text, READERS["label"]).label == "refund"


def test_a_conversation_in_the_reasons_is_no_next_turn():
    said = read("They write:\nUser: it is so.\nAnswer: neutral", READERS["nli"])
    assert (said.label, said.rationale) == ("neutral", "They write: User: it is so.")


def test_an_answer_tag_around_reasons_and_answer():
    said = read("<answer>\nIt is so.\nAnswer: neutral\n</answer>", READERS["nli"])
    assert (said.label, said.rationale) == ("neutral", WHY)


@pytest.mark.parametrize(
    ("kind", "text", "failure"),
    [
        ("nli", "", Failure.NO_COMPLETION),
        ("nli", "It may be so", Failure.NO_ANSWER),
        ("nli", "It is so. This is neutral ground.", Failure.NO_ANSWER),
        ("nli", "The hypothesis is neutral.", Failure.NO_ANSWER),
        ("nli", "It is so.\nAnswer: not **neutral**", Failure.LABEL_OUTSIDE_SET),
        ("nli", "It is so.\nneutral\nentailment", Failure.NO_ANSWER),
        ("nli", '{"rationale": "It is so.", "answer": "neut', Failure.NO_ANSWER),
        ("nli", '{"rationale": "It is so.", "answer": "maybe"}', Failure.LABEL_OUTSIDE_SET),
        ("cqa", "The options are:\n(a) sea\n(b) sky", Failure.NO_ANSWER),
        ("cqa", "It is so. A. Smith went to sea", Failure.NO_ANSWER),
        ("cqa", "It is so. So the answer is a sky.", Failure.LABEL_OUTSIDE_SET),
        ("cqa", "It is so. So the answer is [a] sky.", Failure.LETTER_TEXT_MISMATCH),
        ("label", "It is so.\nAnswer: refund or shipping", Failure.TWO_ANSWERS),
        ("label", "It is so.\nAnswer: refund, not shipping", Failure.LABEL_OUTSIDE_SET),
        ("label", "It is so.\nAnswer: refund request", Failure.LABEL_OUTSIDE_SET),
        ("label", "It is so.\nAnswer: not refund", Failure.LABEL_OUTSIDE_SET),
        ("letters", "It is so.\nAnswer: (B)", Failure.LABEL_OUTSIDE_SET),
        ("numbers", "It is so.\nAnswer: 10", Failure.LABEL_OUTSIDE_SET),
        ("numbers", "It is so.\nAnswer: 1 (of 2)", Failure.LABEL_OUTSIDE_SET),
        ("cqa", "It is so.\nAnswer: sea? no", Failure.LABEL_OUTSIDE_SET),
        ("cqa", "It is so.\nAnswer: lake (not lake shore)", Failure.LABEL_OUTSIDE_SET),
        ("nli", "It is so. It is neutral.", Failure.NO_ANSWER),
        ("nli", '{"rationale": "It is so.", "answer": "neutral', Failure.NO_ANSWER),
        ("svamp", "He had 5. She gave 3. 8", Failure.NO_ANSWER),
        ("svamp", "x = 5 + 3. x = 8. y = 2", Failure.NO_ANSWER),
        ("svamp", "The answer is 2**9.", Failure.MALFORMED_EQUATION),
    ],
)
def test_what_names_no_label_has_none(kind, text, failure):
    said = read(text, READERS[kind])
    assert (said.label, said.failure) == (None, failure)


def test_marks_of_the_text_between_words_stay():
    said = read(
        "He has 5 * 3 * 2 of a_b_c for $5.\n1. One\n2. Two\nAnswer: neutral", READERS["nli"]
    )
    assert said.rationale == "He has 5 * 3 * 2 of a_b_c for $5. One Two"


@pytest.mark.parametrize(
    "text",
    [
        "## Reasoning\n**It** is `so`.\n\n## Answer\nneutral",
        "**Reason:** It is *so*.\n\n**Answer:** neutral",
        "Explanation: It is so. **\nFinal Answer: neutral",
    ],
)
def test_rationales_come_out_without_marks(text):
    said = read(text, READERS["nli"])
    assert (said.label, said.rationale) == ("neutral", WHY)


def test_signs_of_a_rationale_are_ascii():
    said = read("5 \u00d7 3 \u2212 2 \u00f7 1.\nAnswer: neutral", READERS["nli"])
    assert said.rationale == "5 * 3 - 2 / 1."


LENIENT = [
    ("nli", "It is so. Hence this is neutral.", "neutral", WHY),
    ("nli", "It is neutral", "neutral", None),
    ("cqa", "It is so. One finds the lake shore.", "lake shore", WHY),
    ("nli", "It is neutral or entailment.", None, None),
    ("nli", "It is a neutrality.", None, None),
    ("svamp", "It is 5 + 3 here", None, None),
    ("free", "It is so", None, None),
]


@pytest.mark.parametrize(("kind", "text", "label", "rationale"), LENIENT)
def test_lenient_labels_are_off_by_default_and_typed(kind, text, label, rationale):
    assert read(text, READERS[kind]).label is None
    said = read(text, READERS[kind], lenient=True)
    assert (said.label, said.rationale) == (label, rationale)
    assert said.failure == (Failure.LENIENT_LABEL if label else Failure.NO_ANSWER)


def test_lenient_labels_change_nothing_that_has_a_form():
    text = "It is not entailment.\nAnswer: neutral"
    assert read(text, READERS["nli"], lenient=True) == read(text, READERS["nli"])
    text = "It is entailment.\nAnswer: maybe"
    assert read(text, READERS["nli"], lenient=True).failure == Failure.LENIENT_LABEL


STOPS, CUES = ("\n\n", "\nTicket:"), ("Ticket:", "Reason:")


@pytest.mark.parametrize(
    ("text", "label", "rationale"),
    [
        ("\n\nIt is so.\nAnswer: refund\n\nAnswer: shipping", "refund", WHY),
        ("It is so.\n\nAnswer: refund", "refund", WHY),
        ("It\n\nis so.\n\n**Answer:** refund\nTicket: x\nAnswer: shipping", "refund", WHY),
        ("It is so.\n\nTicket: x\nReason: y\nAnswer: shipping", None, None),
        ("It is so.\n\nReason: y\nAnswer: shipping", None, None),
        ("It is so.\n\n**Reason:** y\nAnswer: shipping", None, None),
    ],
)
def test_an_answer_ends_at_a_stop_but_not_at_a_blank_line_before_it(text, label, rationale):
    said, read_text = read_up_to_stops(text, READERS["label"], STOPS, CUES)
    assert (said.label, said.rationale) == (label, rationale)
    assert "Ticket" not in read_text
