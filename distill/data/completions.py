"""Reads label and rationale out of a language model's chain of thought.

A raw completion looks like

    The dog may be asleep.
    Answer: neutral

    Premise: A man cooks.        <- the model goes on and invents the next question

and may lack the answer, repeat it, name something that is no label, or break off.
"""

from __future__ import annotations

import dataclasses
import re

from distill.data.examples import Failure

NLI_LABELS = ("entailment", "neutral", "contradiction")

# Where an invented next question starts: its field name begins a line or follows a sentence.
_RUN_ON = re.compile(r"(?:\A|\n|(?<=[.!?])\s)\s*(?:Premise|Hypothesis|Question|Q)\s*:")
# An answer phrase, up to the end of its sentence or line; the group is what it names.
_ANSWER = re.compile(
    r"(?:\b(?:so|thus|hence|therefore)\b,?\s+)?(?:\bthe\s+)?"
    r"(?:\banswer[^\S\n]*:|\banswer[^\S\n]+is\b:?)"
    r"[^\S\n]*([^.\n]*)[.]?",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What a completion says.

    Attributes:
      label: one of the labels, or None.
      rationale: the reasoning before the answer, without answer phrases, or None.
      failure: why the label or the rationale is missing, or None.
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
    own = _RUN_ON.split(text, maxsplit=1)[0]
    answers = [match for match in _ANSWER.finditer(own) if match.group(1).strip()]
    if not answers:
        return Completion(None, None, Failure.NO_ANSWER)
    last = answers[-1]
    rationale = " ".join(_ANSWER.sub(" ", own[: last.start()]).split()) or None
    label = _named_label(last.group(1))
    if label is None:
        return Completion(None, rationale, Failure.LABEL_OUTSIDE_SET)
    return Completion(label, rationale, None if rationale else Failure.NO_RATIONALE)


def _named_label(answer: str) -> str | None:
    """The one label that an answer starts with and names, or None."""
    words = re.findall(r"[a-z]+", answer.lower())
    named = {word for word in words if word in NLI_LABELS}
    return words[0] if words and named == {words[0]} else None
