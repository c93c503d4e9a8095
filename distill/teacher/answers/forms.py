"""What an answer names, in the forms that models give it: letters, equations, labels, free text.

A `Reader` holds what an answer to one row may be. It has the parsers of the released completions,
and the same with more answer phrases and more forms of letters and equations.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from distill.data.examples import Failure
from distill.data.released.completions import (
    NLI_LABELS,
    Answer,
    Completion,
    Phrases,
    named_choice,
    named_equation,
    named_label,
    parse_choice,
    parse_equation,
    parse_free,
    parse_named,
    parse_nli,
)
from distill.teacher.answers.latex import plain_equation

_GAP = r"[^\S\n]{1,8}"
_SO = r"\b(?:so|thus|hence|therefore|finally|overall|in conclusion)\b[,:]?\s+"
_THE = r"\b(?:the|my|our)\s+"
# "best" and the like belong to the phrase if it starts a sentence: in "of these, the best answer is
# x" they belong to the reasoning.
_PHRASE = (
    rf"(?:(?:{_SO}(?:{_THE})?|(?<![^.!?:\n]\s){_THE})"
    r"(?:\b(?:final|correct|best|right|most likely|likely)\s+){1,3}"
    rf"|(?:{_SO})?(?:{_THE})?(?:\b(?:final|correct)\s+){{0,2}})"
    r"(?:\banswer[^\S\n]{0,8}[:\uff1a=]"
    rf"|\banswer(?:{_GAP}(?:to|of){_GAP}(?:the|this){_GAP}(?:question|problem))?"
    rf"{_GAP}(?:is|would be|should be|must be)\b[:\uff1a]?"
    rf"|\banswer{_GAP}(?:->|[-\u2192\u2013\u2014](?=\s))"
    rf"|\b(?:correct|best|right|final){_GAP}(?:option|choice|label){_GAP}is\b:?"
    rf"|\b(?:correct|best|right|final){_GAP}(?:option|choice|label):)"
    r"[^\S\n]*"
)
PHRASES = Phrases.of(_PHRASE)
# A line, or the last sentence of one, that announces the answer of the next line.
_ALONE = re.compile(
    r"(?:^[ \t]{0,8}|(?<=[.!?][ \t]))(?:(?:the|my)[ \t]{1,8})?"
    r"(?:(?:final|correct|best)[ \t]{1,8})?answer(?:[ \t]{1,8}is)?[ \t]{0,8}[:\uff1a]?"
    r"[ \t]{0,8}\n\s*(?=\S)(?!.{0,60}\banswer\b)",
    re.IGNORECASE | re.MULTILINE,
)
# A line that only announces the rationale.
_TITLE = re.compile(
    r"^[ \t]{0,8}(?:step[- ]by[- ]step[ \t]{1,8})?(?:reason|reasoning|rationale|explanation"
    r"|justification|analysis)[ \t]{0,8}[:\uff1a]?[ \t]{0,8}$",
    re.IGNORECASE | re.MULTILINE,
)
# Other names that models give a line with the answer, for closed sets and equations.
_OTHER_NAME = re.compile(
    r"^[^\S\n]{0,8}(?:label|relation|relationship|category|class|classification|choice|option"
    r"|prediction|verdict|conclusion|decision|result|output|response|equation|solution)"
    r"[^\S\n]{0,8}[:\uff1a=][^\S\n]{0,8}(?=\S)([^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_LETTERED = re.compile(
    r"(?P<word>(?:the\s)?(?:option|choice|letter|answer)\s{1,4})?(?P<open>[\[({])?\s?"
    r"(?P<letter>[a-z])(?!\w)\s?(?P<close>[\])}])?"
    r"(?P<mark>\s?[.:,)\-\u2013\u2014]{1,2}(?=\s|$))?\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_WIDE = str.maketrans(
    {
        "\uff08": "(",
        "\uff09": ")",
        "\u201c": '"',
        "\u201d": '"',
        "\u2018": "'",
        "\u2019": "'",
        "\uff0e": ".",
        "\u3002": ".",
        "\uff1a": ":",
        "\u00a0": " ",
    }
)


@dataclasses.dataclass(frozen=True)
class Reader:
    """What the answer to one row may be.

    Attributes:
      kind: "nli", "choice" (`choices` by letter or text), "equation" or "free" (any text).
      choices: the labels; () for equations and free text.
    """

    kind: str
    choices: Sequence[str] = ()

    @property
    def labels(self) -> Sequence[str]:
        """The closed set of labels, () if there is none."""
        return NLI_LABELS if self.kind == "nli" else self.choices

    def released(self, text: str) -> Completion:
        """Reads a completion as those of the paper's data are read."""
        if self.kind == "nli":
            return parse_nli(text)
        if self.kind == "equation":
            return parse_equation(text)
        return parse_choice(text, self.choices) if self.kind == "choice" else parse_free(text)

    def parse(self, text: str) -> Completion:
        """Reads a text without marks, with all answer phrases and forms."""
        if self.kind == "nli":
            return parse_nli(text, PHRASES)
        return parse_named(text, self.named, PHRASES)

    def named(self, answer: str) -> Answer:
        """Label and failure of what an answer phrase names."""
        answer = answer.translate(_WIDE)
        if self.kind == "nli":
            label = named_label(answer)
            return label, None if label else Failure.LABEL_OUTSIDE_SET
        if self.kind == "equation":
            return _first(named_equation, answer, plain_equation(answer))
        if self.kind == "choice":
            return _first(
                lambda text: named_choice(text, self.choices), answer, _with_letter(answer)
            )
        text = " ".join(answer.split()).rstrip(".").strip("\"'")
        return text or None, None if text else Failure.NO_ANSWER

    def whole(self, line: str) -> str | None:
        """The label that a line consists of, or None: a line with other words has none."""
        if self.kind == "free" or not line.strip() or len(line) > 500:
            return None
        label, failure = self.named(line)
        if self.kind == "nli" and label and not re.fullmatch(rf"\W*{label}\W*", line, re.I):
            return None
        return label if failure is None else None


def _first(read: Callable[[str], Answer], *texts: str) -> Answer:
    """What the first text with a label names; if none has one, the failure that says most."""
    said = read(texts[0])
    for text in texts[1:]:
        if said[0] is None and text != texts[0]:
            other = read(text)
            vague = said[1] == Failure.LABEL_OUTSIDE_SET
            said = other if other[0] is not None or vague else said
    return said


def _with_letter(answer: str) -> str:
    """`b. sky`, `[b] sky` and `option B: sky` as `(b) sky`; other texts as they are."""
    match = _LETTERED.fullmatch(answer.strip())
    if match is None:
        return answer
    enclosed = match["open"] and match["close"]
    if not (match["word"] or enclosed or match["mark"] or not match["rest"]):
        return answer
    return f"({match['letter'].lower()}) {match['rest']}".strip()


def joined(text: str) -> str:
    """The text with each line that only announces an answer joined to the line after it.

    Lines that only announce a rationale are left out.
    """
    return _ALONE.sub("Answer: ", _TITLE.sub("", text))


def other_named(text: str) -> tuple[int, str] | None:
    """Start and content of the last line such as `Label: x`, or None."""
    found = [(line.start(), line[1]) for line in _OTHER_NAME.finditer(text)]
    return found[-1] if found else None
