"""The rationale that a student learns from: of the answer, of the thoughts, or of both."""

from __future__ import annotations

import re
import unicodedata

from distill.data.released import equations
from distill.data.released.completions import without_loops
from distill.teacher.answers.forms import PHRASES, joined
from distill.teacher.answers.latex import without_latex
from distill.teacher.answers.marks import end_at_turn, without_marks

_LEAD = re.compile(
    r"\s*(?:reason|reasoning|reasons|rationale|explanation|justification|analysis)\s{0,4}[:\uff1a]\s*",
    re.IGNORECASE,
)
_SYMBOLS = " \t\n*#>|~_-\u2013\u2014\u2022([{\u3010"
# The beginning of an answer, after the last sentence: "Step 2:", "Conclusion:", "2.", "Answer:".
_BEGUN = re.compile(
    r"(?:(?<=[.!?:;])\s{1,4}|^\s{0,4})(?:step\s{0,2}\d{1,2}\s{0,2}[:.)]?|\d{1,2}[.)]"
    r"|(?:in\s)?(?:conclusion|summary|result)\s{0,2}:|(?:the\s)?(?:final\s)?(?:answer|ans)\s{0,2}[.:]"
    r"(?:\s{0,4}(?:the|\d{1,2}[.)]))?)\s{0,4}$",
    re.IGNORECASE,
)
_LONGEST_BEGUN = 40
_END = re.compile(r"(?<=[.!?])\s+")
# Sentences in which a model talks to itself.
_TALK = re.compile(
    r"(?:(?:ok|okay|hmm+|wait|alright|all right|right|so|now|well|yes|no|but)[,.!]?\s*)*"
    r"(?:let me (?:think|see|check|double-check)|let's (?:think|see|check)|i need to think)?"
    r"(?: (?:about|through) (?:this|it))?(?: again| step by step)?[.!?]*",
    re.IGNORECASE,
)


def clean(text: str | None) -> str | None:
    """A rationale on one line, without marks or the remains of an answer phrase; None if blank."""
    if text is None:
        return None
    text = equations.to_ascii(" ".join(text.split()))
    lead = _LEAD.match(text)
    text = text[lead.end() :] if lead else text
    for _ in range(2):
        tail = max(0, len(text) - _LONGEST_BEGUN)
        begun = _BEGUN.search(text, tail)
        text = _without_symbols(text[: begun.start()] if begun else text)
    if text[:1] == text[-1:] == '"' and text.count('"') == 2:
        text = text[1:-1].strip()
    return text or None


def _without_symbols(text: str) -> str:
    """A text without the marks at its end."""
    end = len(text)
    while end and (text[end - 1] in _SYMBOLS or unicodedata.category(text[end - 1]) == "So"):
        end -= 1
    return text[:end]


def clean_thoughts(thoughts: str, most_words: int) -> tuple[str | None, bool]:
    """Thoughts as a rationale.

    Marks, answer phrases, sentences that repeat the one before them and sentences in which the
    model talks to itself ("Okay, let me think.") are left out. Of longer thoughts the last whole
    sentences are kept, since they hold the conclusion.

    Args:
      thoughts: the raw thoughts.
      most_words: of the rationale. If the last sentence alone is longer, its last words are kept.

    Returns:
      The rationale (None if nothing is left), and whether it was cut to `most_words`.
    """
    plain = joined(without_latex(without_marks(end_at_turn(thoughts))))
    text = without_loops(PHRASES.sentence.sub(" ", plain)) or ""
    sentences = [one for one in _END.split(text) if len(one) > 100 or not _TALK.fullmatch(one)]
    kept: list[str] = []
    words = 0
    for sentence in reversed(sentences):
        words += len(sentence.split())
        if words > most_words:
            break
        kept.insert(0, sentence)
    cut = len(kept) < len(sentences)
    if cut and not kept:
        kept = [" ".join(sentences[-1].split()[-most_words:])]
    return clean(" ".join(kept)), cut


def chosen(
    rationale: str | None, thoughts: str, source: str, most_words: int
) -> tuple[str | None, bool]:
    """The rationale of a row.

    Args:
      rationale: that of the answer.
      thoughts: the raw thoughts, "" if there are none.
      source: "answer", "reasoning", or "both": the thoughts before the answer's rationale.
      most_words: of the thoughts.

    Returns:
      The rationale, and whether thoughts were cut.
    """
    if source == "answer":
        return rationale, False
    said, cut = clean_thoughts(thoughts, most_words)
    if source == "reasoning":
        return said, cut
    return " ".join(text for text in (said, rationale) if text) or None, cut
