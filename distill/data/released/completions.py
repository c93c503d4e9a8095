"""Reads label and rationale out of a language model's chain of thought.

A raw completion looks like

    The dog may be asleep.
    Answer: neutral

    Premise: A man cooks.        <- the model continues and invents the next question

and may lack the answer, repeat it, name something that is no label, or break off. What
an answer may name depends on the question: an NLI label, one of its choices, an equation.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Callable, Sequence

from distill.data.examples import Failure
from distill.data.released import equations

NLI_LABELS = ("entailment", "neutral", "contradiction")

# Where an invented next question starts: its field name begins a line or follows a sentence.
_RUN_ON = re.compile(r"(?:\A|\n|(?<=[.!?])\s)\s*(?:Premise|Hypothesis|Question|Q)\s*:")
_PHRASE = (
    r"(?:\b(?:so|thus|hence|therefore)\b,?\s+)?(?:\bthe\s+)?"
    r"(?:\banswer[^\S\n]*:|\banswer[^\S\n]+is\b:?)"
    r"[^\S\n]*"
)
# An answer phrase, up to the end of its sentence or line; the group is what it names.
_ANSWER = re.compile(_PHRASE + r"([^.\n]*)[.]?", re.IGNORECASE)
# The same for answers with full stops in them ("2.5", "u.s. army"): up to a full stop that
# ends the line or comes before a capital, a parenthesis or an answer phrase.
_SENTENCE_ANSWER = re.compile(
    _PHRASE + r"((?:(?![.!?](?:\s+(?-i:[A-Z(])|\s*(?:\n|\Z))|\s" + _PHRASE + r").)*)[.!?]?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?:\(|\b)([a-z])\)")
_BEFORE_LETTER = ("", "likely", "most likely", "probably", "choice", "option")
_AND_OR = re.compile(r",?\s*\b(?:or|and)\b\s*|,\s*")
_DANGLING = re.compile(r"(?:,|\s+or|\s+and)+\s*$")  # what leads to a second answer
# What may follow a choice: the end, punctuation, or an afterthought.
_AFTER_CHOICE = r"(?=$|[.,;:!?\"()]|\s+(?:because|since|as|or|and|but)\b|\s+\()"
_SAME_BUT_MISSPELLED = 0.8


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What a completion says.

    Attributes:
      label: one of the labels, or None.
      rationale: the reasoning before the answer, without answer phrases, or None.
      failure: why the label or the rationale is missing, or in doubt, or None.
    """

    label: str | None
    rationale: str | None
    failure: Failure | None


def parse_nli(text: str) -> Completion:
    """Reads the completion of a natural language inference question.

    What follows the first invented question is ignored; of what is left, the last
    answer phrase that names anything counts ("Answer: neutral", "So the answer is
    neutral."). It must start with a label and name no second one. The rationale is the
    text before that phrase. Text that never comes to an answer is taken for broken off:
    it gives no rationale. A label without reasoning is kept, with failure
    `no_rationale`; reasoning with an answer that is no label too, with
    `label_outside_set`.

    Args:
      text: the raw completion.

    Returns:
      Label, rationale and failure.
    """
    if not text.strip():
        return Completion(None, None, Failure.NO_COMPLETION)
    completion = _RUN_ON.split(text, maxsplit=1)[0]
    answers = [match for match in _ANSWER.finditer(completion) if match.group(1).strip()]
    if not answers:
        return Completion(None, None, Failure.NO_ANSWER)
    last = answers[-1]
    rationale = " ".join(_ANSWER.sub(" ", completion[: last.start()]).split()) or None
    label = _named_label(last.group(1))
    if label is None:
        return Completion(None, rationale, Failure.LABEL_OUTSIDE_SET)
    return Completion(label, rationale, None if rationale else Failure.NO_RATIONALE)


def _named_label(answer: str) -> str | None:
    """The one label that an answer starts with and names, or None."""
    words = re.findall(r"[a-z]+", answer.lower())
    named = {word for word in words if word in NLI_LABELS}
    return words[0] if words and named == {words[0]} else None


def parse_choice(text: str, choices: Sequence[str]) -> Completion:
    """Reads the completion of a multiple-choice question.

    "So the answer is (d) math problem." names a choice by letter and text. The letter
    alone does, and so does the exact text alone; case, spacing and small misspellings of
    the letter's own choice are passed over. Run-on, missing and repeated answers are
    dealt with as in `parse_nli`. A sentence that follows itself counts once in the
    rationale.

    Args:
      text: the raw completion.
      choices: texts of the choices (a), (b), ...; two may be the same.

    Returns:
      Label (one of `choices`), rationale and failure. An answer that names several
      choices has failure `two_answers`; "(a) park or (d) pool" keeps its first choice as
      the label beside that failure, "either (a) park or (d) pool" has none. An answer
      whose letter and text are of different choices has `letter_text_mismatch`, any
      other that is no choice `label_outside_set`.
    """
    return _parse(text, lambda answer: _named_choice(answer, choices))


def parse_equation(text: str) -> Completion:
    """Reads the completion of an arithmetic problem.

    "The answer is (84 / 2)." names an equation; words after it ("minutes") are left
    off. Run-on, missing and repeated answers are dealt with as in `parse_nli`. A
    sentence that follows itself counts once in the rationale.

    Args:
      text: the raw completion.

    Returns:
      Label (an equation with a value, as it is written), rationale and failure: that of
      `equations.value`, or `two_answers`.
    """
    return _parse(text, _named_equation)


def parse_free(text: str) -> Completion:
    """Reads a completion whose answer may be any text.

    Run-on, missing and repeated answers are dealt with as in `parse_nli`.

    Args:
      text: the raw completion.

    Returns:
      Label (what follows the answer phrase, without the full stop), rationale and failure.
    """
    return _parse(text, lambda answer: (answer.strip(), None))


Answer = tuple[str | None, Failure | None]
_NOTHING_NAMED = (Failure.LABEL_OUTSIDE_SET, Failure.MALFORMED_EQUATION)


def _parse(text: str, read: Callable[[str], Answer]) -> Completion:
    """Finds the last answer phrase before the run-on and has what it says read.

    Earlier phrases leave the rationale if they give an answer ("The answer is (b)"), and
    stay if they are reasoning ("The answer is something cold").
    """
    if not text.strip():
        return Completion(None, None, Failure.NO_COMPLETION)
    completion = _RUN_ON.split(text, maxsplit=1)[0]
    matches = [match for match in _SENTENCE_ANSWER.finditer(completion) if match.group(1).strip()]
    if not matches:
        return Completion(None, None, Failure.NO_ANSWER)
    label, failure = read(matches[-1].group(1))
    kept, start = [], 0
    for match in matches:
        kept.append(completion[start : match.start()])
        start = match.end()
        if read(match.group(1))[1] in _NOTHING_NAMED and match is not matches[-1]:
            kept.append(match.group())
    rationale = _without_loops(" ".join(kept))
    return Completion(label, rationale, failure or (None if rationale else Failure.NO_RATIONALE))


def _without_loops(text: str) -> str | None:
    """The text on one line, a sentence that follows itself once; None if it is blank."""
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return " ".join(sentence for sentence, _ in itertools.groupby(sentences)) or None


def _named_choice(answer: str, choices: Sequence[str]) -> Answer:
    """The choice that an answer names, by letter, text or both."""
    answer = _even(answer)
    texts = [_even(choice) for choice in choices]
    if answer in texts:
        return choices[texts.index(answer)], None
    letters = list(_LETTER.finditer(answer)) or list(re.finditer(r"\A([a-z])\Z", answer))
    if not letters:
        several = len(set(texts) & set(_AND_OR.split(answer))) > 1
        return None, Failure.TWO_ANSWERS if several else Failure.LABEL_OUTSIDE_SET
    indices = [ord(match.group(1)) - ord("a") for match in letters]
    if max(indices) >= len(choices):
        return None, Failure.LABEL_OUTSIDE_SET
    before = answer[: letters[0].start()].strip()
    ends = letters[1].start() if len(letters) > 1 else len(answer)
    label, failure = _confirmed(choices, indices[0], answer[letters[0].end() : ends])
    if len({texts[index] for index in indices}) > 1:
        return (None if before else label), failure or Failure.TWO_ANSWERS
    return (label, failure) if before in _BEFORE_LETTER else (None, Failure.LABEL_OUTSIDE_SET)


def _confirmed(choices: Sequence[str], index: int, rest: str) -> Answer:
    """The choice of a letter, if the text after the letter does not contradict it."""
    choice_text = _even(choices[index])
    rest = _even(_DANGLING.sub("", rest))
    texts = sorted({_even(choice) for choice in choices}, key=len, reverse=True)
    if rest in ("", choice_text) or (rest not in texts and choice_text.startswith(f"{rest} ")):
        return choices[index], None
    starts = [text for text in texts if re.match(re.escape(text) + _AFTER_CHOICE, rest)]
    if starts and starts[0] != choice_text:
        return None, Failure.LETTER_TEXT_MISMATCH
    if starts:
        several = set(_AND_OR.split(rest[len(choice_text) :])) & (set(texts) - {choice_text})
        return choices[index], Failure.TWO_ANSWERS if several else None
    likeness = {text: difflib.SequenceMatcher(None, text, rest).ratio() for text in texts}
    if (
        likeness[choice_text] == max(likeness.values())
        and likeness[choice_text] >= _SAME_BUT_MISSPELLED
    ):
        return choices[index], None
    return None, Failure.LABEL_OUTSIDE_SET


def _named_equation(answer: str) -> Answer:
    """The one equation with a value that an answer starts with."""
    answer = " ".join(answer.split()).rstrip(".!")
    trailing = re.fullmatch(r"(.*[\d)])((?:\s+|%|\s*,\s*)[^\d()]+)", answer)
    equation = trailing.group(1) if trailing else answer
    try:
        equations.value(equation)
    except equations.EquationError as error:
        several = len(re.split(r"\s+(?:or|and)\s+|,\s+", equation)) > 1
        numbers = re.search(r"\d.*(?:\s(?:or|and)\s|,\s).*\d", equation)
        malformed = error.failure == Failure.MALFORMED_EQUATION
        return None, Failure.TWO_ANSWERS if malformed and several and numbers else error.failure
    return equation, None


def _even(text: str) -> str:
    """Case, spacing and the full stop at the end evened out."""
    return " ".join(text.casefold().split()).rstrip(".!?,;:").strip("\"' ")
