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

# The field names of an invented next question.
_FIELD = re.compile(r"(?:Premise|Hypothesis|Question|Q)\s*:")
_PHRASE = (
    r"(?:\b(?:so|thus|hence|therefore)\b,?\s+)?(?:\bthe\s+)?"
    r"(?:\banswer[^\S\n]*:|\banswer[^\S\n]+is\b:?)"
    r"[^\S\n]*"
)
_LETTER = re.compile(r"(?:\(|\b)([a-z])\)")
_BEFORE_LETTER = ("", "likely", "most likely", "probably", "choice", "option")
_AND_OR = re.compile(r",?\s*\b(?:or|and)\b\s*|,\s*")
# What may follow a choice: the end, punctuation, or an afterthought.
_AFTER_CHOICE = r"(?=$|[.,;:!?\"()]|\s+(?:because|since|as|or|and|but)\b|\s+\()"
_SEPARATOR = re.compile(r"\s(?:or|and)\s|,\s")  # between two answers
_SAME_BUT_MISSPELLED = 0.8


@dataclasses.dataclass(frozen=True)
class Phrases:
    """What announces an answer; group 1 of each pattern is what the answer names.

    Attributes:
      line: up to the end of the sentence or line.
      sentence: the same for answers with full stops in them ("2.5", "u.s. army"): up to a full
        stop that ends the line or comes before a capital, a parenthesis or an answer phrase.
    """

    line: re.Pattern[str]
    sentence: re.Pattern[str]

    @classmethod
    def of(cls, phrase: str) -> Phrases:
        """The patterns of a phrase, a regular expression without groups that capture."""
        ends = r"[.!?](?:\s+(?-i:[A-Z(])|\s*(?:\n|\Z))|\s" + phrase
        return cls(
            re.compile(phrase + r"([^.\n]*)[.]?", re.IGNORECASE),
            re.compile(phrase + rf"((?:(?!{ends}).)*)[.!?]?", re.IGNORECASE),
        )


PHRASES = Phrases.of(_PHRASE)


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


def parse_nli(text: str, phrases: Phrases = PHRASES) -> Completion:
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
      phrases: what announces an answer.

    Returns:
      Label, rationale and failure.
    """
    if not text.strip():
        return Completion(None, None, Failure.NO_COMPLETION)
    completion = without_run_on(text)
    answers = [match for match in phrases.line.finditer(completion) if match.group(1).strip()]
    if not answers:
        return Completion(None, None, Failure.NO_ANSWER)
    last = answers[-1]
    rationale = " ".join(phrases.line.sub(" ", completion[: last.start()]).split()) or None
    label = named_label(last.group(1))
    if label is None:
        return Completion(None, rationale, Failure.LABEL_OUTSIDE_SET)
    return Completion(label, rationale, None if rationale else Failure.NO_RATIONALE)


def without_run_on(text: str) -> str:
    """The text before the first invented next question.

    Such a question starts with the white space before a field name that begins a line or follows
    a sentence.
    """
    for field in _FIELD.finditer(text):
        start = field.start()
        while start and text[start - 1].isspace():
            start -= 1
        line = text.find("\n", start, field.start())
        if start == 0 or (start < field.start() and text[start - 1] in ".!?"):
            return text[:start]
        if line >= 0:
            return text[:line]
    return text


def named_label(answer: str) -> str | None:
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
    return parse_named(text, lambda answer: named_choice(answer, choices))


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
    return parse_named(text, named_equation)


def parse_free(text: str) -> Completion:
    """Reads a completion whose answer may be any text.

    Run-on, missing and repeated answers are dealt with as in `parse_nli`.

    Args:
      text: the raw completion.

    Returns:
      Label (what follows the answer phrase, without the full stop), rationale and failure.
    """
    return parse_named(text, lambda answer: (answer.strip(), None))


Answer = tuple[str | None, Failure | None]
_NOTHING_NAMED = (Failure.LABEL_OUTSIDE_SET, Failure.MALFORMED_EQUATION)


def parse_named(text: str, read: Callable[[str], Answer], phrases: Phrases = PHRASES) -> Completion:
    """Finds the last answer phrase before the run-on and has what it says read.

    Earlier phrases leave the rationale if they give an answer ("The answer is (b)"), and
    stay if they are reasoning ("The answer is something cold").

    Args:
      text: the raw completion.
      read: gives label and failure of what an answer phrase names.
      phrases: what announces an answer.

    Returns:
      Label, rationale and failure.
    """
    if not text.strip():
        return Completion(None, None, Failure.NO_COMPLETION)
    completion = without_run_on(text)
    matches = [match for match in phrases.sentence.finditer(completion) if match.group(1).strip()]
    if not matches:
        return Completion(None, None, Failure.NO_ANSWER)
    label, failure = read(matches[-1].group(1))
    kept, start = [], 0
    for match in matches:
        kept.append(completion[start : match.start()])
        start = match.end()
        if read(match.group(1))[1] in _NOTHING_NAMED and match is not matches[-1]:
            kept.append(match.group())
    rationale = without_loops(" ".join(kept))
    return Completion(label, rationale, failure or (None if rationale else Failure.NO_RATIONALE))


def without_loops(text: str) -> str | None:
    """The text on one line, a sentence that follows itself once; None if it is blank."""
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return " ".join(sentence for sentence, _ in itertools.groupby(sentences)) or None


def named_choice(answer: str, choices: Sequence[str]) -> Answer:
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
    rest = _even(_without_dangling(rest))
    texts = sorted({_even(choice) for choice in choices}, key=len, reverse=True)
    if rest in ("", choice_text) or (rest not in texts and choice_text.startswith(f"{rest} ")):
        return choices[index], None
    starts = [text for text in texts if re.match(re.escape(text) + _AFTER_CHOICE, rest)]
    if starts and starts[0] != choice_text:
        return None, Failure.LETTER_TEXT_MISMATCH
    if starts:
        several = set(_AND_OR.split(rest[len(choice_text) :])) & (set(texts) - {choice_text})
        return choices[index], Failure.TWO_ANSWERS if several else None
    if len(rest) > 2 * len(choice_text):  # too long to be as alike as is asked below
        return None, Failure.LABEL_OUTSIDE_SET
    likeness = {text: difflib.SequenceMatcher(None, text, rest).ratio() for text in texts}
    if (
        likeness[choice_text] == max(likeness.values())
        and likeness[choice_text] >= _SAME_BUT_MISSPELLED
    ):
        return choices[index], None
    return None, Failure.LABEL_OUTSIDE_SET


def _without_dangling(text: str) -> str:
    """The text without the commas, "or" and "and" at its end, which lead to a second answer."""
    end = len(text.rstrip())
    while end:
        word = next((w for w in ("or", "and") if text.endswith(w, 0, end)), "")
        if text[end - 1] == ",":
            end -= 1
        elif word and end > len(word) and text[end - len(word) - 1].isspace():
            end -= len(word)
            while end and text[end - 1].isspace():
                end -= 1
        else:
            break
    return text[:end]


def named_equation(answer: str) -> Answer:
    """The one equation with a value that an answer starts with."""
    answer = " ".join(answer.split()).rstrip(".!")
    trailing = re.fullmatch(r"(.*[\d)])((?:\s+|%|\s*,\s*)[^\d()]+)", answer)
    equation = trailing.group(1) if trailing else answer
    try:
        equations.value(equation)
    except equations.EquationError as error:
        several = len(re.split(r"\s+(?:or|and)\s+|,\s+", equation)) > 1
        digits = [match.start() for match in re.finditer(r"\d", equation)]
        numbers = len(digits) > 1 and _SEPARATOR.search(equation, digits[0] + 1, digits[-1])
        malformed = error.failure == Failure.MALFORMED_EQUATION
        return None, Failure.TWO_ANSWERS if malformed and several and numbers else error.failure
    return equations.to_ascii(equation), None


def _even(text: str) -> str:
    """Case, spacing and the full stop at the end evened out."""
    return " ".join(text.casefold().split()).rstrip(".!?,;:").strip("\"' ")
