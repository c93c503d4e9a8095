"""What an answer names, in the forms that models give it: letters, equations, labels, free text.

A `Reader` holds what an answer to one row may be. It has the parsers of the released completions,
and the same with more answer phrases and more forms of letters and equations.
"""

from __future__ import annotations

import dataclasses
import functools
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
    r"(?:\b(?:answer|ans\.?)[^\S\n]{0,8}[:\uff1a\ufe55=]"
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
# What else models call an answer, of closed sets and equations.
_NOUN = (
    r"(?:label|relation|relationship|category|class|classification|choice|option|prediction"
    r"|verdict|conclusion|decision|result|output|response|equation|solution|sentiment|intent|topic"
    r"|emotion|stance|tag)"
)
_FOREIGN = (  # "answer", or its first letter, before a colon
    r"(?:a|r\u00e9ponse|antwort|respuesta|risposta|resposta|svar|cevap|odpowied\u017a|jawaban"
    r"|\u043e\u0442\u0432\u0435\u0442|\u7b54\u6848|\u56de\u7b54|\uc815\ub2f5)"
)
_BEFORE_NOUN = r"(?:(?:final|predicted|correct|best|right|gold|most likely)[^\S\n]{1,8}){0,2}"
_OTHER_NAME = re.compile(
    rf"^[^\S\n]{{0,8}}{_BEFORE_NOUN}(?:{_NOUN}|{_FOREIGN})[^\S\n]{{0,8}}[:\uff1a=]"
    r"[^\S\n]{0,8}(?=\S)([^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
# Marks that stand for a colon after "Answer".
_MARKED = re.compile(
    r"[\[\u3010]((?:final[ \t])?answer)[\]\u3011][ \t]{0,4}[:\uff1a]?"  # [Answer] x
    r"|^[ \t]{0,4}\|[ \t]{0,8}((?:final[ \t])?answer)[ \t]{0,8}\|(?=[^|\n]{1,200}\|?[ \t]{0,8}$)",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTED = re.compile(r"[\"']((?:final[ _])?answer)[\"'][ \t]{0,4}[:\uff1a]", re.IGNORECASE)
_TWICE = re.compile(
    r"\banswer[ \t]{0,4}[:\uff1a]\s{0,4}(?=(?:(?:the|my)[ \t]{1,4})?"
    r"(?:(?:final|correct)[ \t]{1,4})?answer[ \t]{0,4}(?:is\b|[:\uff1a]))",
    re.IGNORECASE,
)
# What may stand between "Answer:" and the answer: "it is", "the label is".
_LEAD_IN = re.compile(
    rf"\s{{0,4}}(?:(?:the|this|it)\b\s{{0,4}})?(?:{_BEFORE_NOUN}{_NOUN}\b\s{{0,4}})?"
    r"(?:(?:is|would be|must be)\b\s{0,4}|=\s{0,4})?[:\uff1a]?\s{0,4}",
    re.IGNORECASE,
)
_AND_LEAD_IN = re.compile(
    rf"(\banswer[ \t]{{0,4}}[:\uff1a][ \t]{{0,4}}){_LEAD_IN.pattern}", re.IGNORECASE
)
# The beginning and the end of a sentence that names an answer and says nothing else.
_CONCLUDED = re.compile(
    r"\s{0,4}(?:(?:so|thus|hence|therefore|finally|overall|in conclusion)\b[,:]?\s{1,4})?"
    rf"(?:(?:the\s{{1,4}})?{_BEFORE_NOUN}{_NOUN}\b\s{{0,4}}(?:is\b|would be\b|=)?"
    r"[:\uff1a]?\s{0,4})?(?:->|=>|[\u2192\u21d2])?\s{0,4}",
    re.IGNORECASE,
)
_LEAD_OUT = re.compile(
    r"\s{1,4}is\s{1,4}(?:the|my)\s{1,4}(?:(?:final|correct|best|right|most likely)\s{1,4}){0,2}"
    r"(?:answer|choice|option|label)[.!]?\s{0,4}$",
    re.IGNORECASE,
)
# What may follow a label that an answer starts with: an explanation.
_EXPLAINED = re.compile(
    r"\s{0,2}(?:[.,;:!)\]\u2013\u2014](?=\s|$)|\s[-\u2013\u2014(]|\s(?:because|since|as)\b)\s*"
)
_OPENING = re.compile(r"\W{0,3}")
_LETTERED = re.compile(
    r"(?P<word>(?:the\s)?(?:option|choice|letter|answer)\s{1,4})?(?P<open>[\[({])?\s?"
    r"(?P<letter>[a-z])(?!\w)\s?(?P<close>[\])}])?"
    r"(?P<mark>\s?[.:,)\-\u2013\u2014]{1,2}(?=\s|$))?\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_DECORATION = " \t*_~\u2705\u2714\ufe0f\u2b50\U0001f44d"
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
      lettered: whether the question names the choices by letter.
    """

    kind: str
    choices: Sequence[str] = ()
    lettered: bool = True

    @property
    def labels(self) -> Sequence[str]:
        """The closed set of labels, () if there is none."""
        return NLI_LABELS if self.kind == "nli" else self.choices

    @functools.cached_property
    def _has_letters(self) -> bool:
        """Whether labels are letters themselves, so that a letter is no place in their list."""
        return not self.lettered and all(len(label.strip()) == 1 for label in self.choices)

    def released(self, text: str) -> Completion:
        """Reads a completion as those of the paper's data are read."""
        if self.kind == "nli":
            return parse_nli(text)
        if self.kind == "equation":
            return parse_equation(text)
        if self._has_letters:
            return parse_named(text, self.named)
        return parse_choice(text, self.choices) if self.kind == "choice" else parse_free(text)

    def parse(self, text: str) -> Completion:
        """Reads a text without marks, with all answer phrases and forms."""
        if self.kind != "nli":
            return parse_named(text, self.named, PHRASES)
        said = parse_nli(text, PHRASES)
        if said.failure == Failure.LABEL_OUTSIDE_SET:
            other = parse_nli(_AND_LEAD_IN.sub(r"\1", text), PHRASES)
            said = said if other.label is None else other
        return said

    def named(self, answer: str) -> Answer:
        """Label and failure of what an answer phrase names."""
        answer = answer.translate(_WIDE).rstrip(_DECORATION)
        if self.kind == "nli":
            label = named_label(answer)
            return label, None if label else Failure.LABEL_OUTSIDE_SET
        if self.kind == "equation":
            return _first(named_equation, answer, plain_equation(answer))
        if self.kind == "choice":
            said = _first(self._choice, answer, _with_letter(answer))
            if said[1] == Failure.LABEL_OUTSIDE_SET:
                label = self._started(answer)
                said = (label, None) if label else said
            return said
        text = " ".join(answer.split()).rstrip(".").strip("\"'")
        return text or None, None if text else Failure.NO_ANSWER

    def _choice(self, text: str) -> Answer:
        """The choice that a text names."""
        if not self._has_letters:
            return named_choice(text, self.choices)
        return self._equal(text), None if self._equal(text) else Failure.LABEL_OUTSIDE_SET

    def _equal(self, text: str) -> str | None:
        """The one label that a text is, apart from brackets, quotes, case, spaces, - and _."""
        for even in (_bare, _joined_words):
            found = {label for label in self.choices if even(label) == even(text)}
            if even(text) and len(found) == 1:
                return next(iter(found))
        return None

    def _started(self, answer: str) -> str | None:
        """The label that an answer is or starts with, if it names no other."""
        answer = _LEAD_OUT.sub("", answer.strip())
        for text in (answer, _LEAD_IN.sub("", answer, count=1)):
            if label := self._equal(text):
                return label
            found: dict[str, str] = {}
            for label in self.choices:
                if (rest := _after(text, label)) is not None:
                    found[label] = rest
            if found:
                label = max(found, key=len)
                others = {*self.choices} - found.keys()
                return None if any(names(found[label], other) for other in others) else label
        return None

    def whole(self, line: str, sentence: bool = False) -> str | None:
        """The label that a line consists of, or None: a line with other words has none.

        Args:
          line: the text.
          sentence: whether it may say "So the label is ..." or "... is the correct answer".
        """
        if self.kind == "free" or not line.strip() or len(line) > 500:
            return None
        if sentence:
            line = _CONCLUDED.sub("", _LEAD_OUT.sub("", line), count=1)
        label, failure = self.named(line)
        if failure is not None or label is None:
            return None
        if self.kind == "nli" and not re.fullmatch(rf"\W*{label}\W*", line, re.I):
            return None
        return None if self.kind == "choice" and _after(line, label) else label


def names(text: str, label: str) -> bool:
    """Whether a text contains a label as whole words."""
    words = " ".join(label.casefold().split())
    text = " ".join(text.casefold().split())
    if not words or words not in text:
        return False
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _after(text: str, label: str) -> str | None:
    """What follows a label and a mark at the start of a text; None if it starts otherwise."""
    plain = text.casefold()
    opening = _OPENING.match(plain)
    start = opening.end() if opening else 0
    if not plain.startswith(label.casefold(), start):
        return None
    rest = plain[start + len(label.casefold()) :]
    explained = _EXPLAINED.match(rest)
    return rest[explained.end() :] if explained else None


def _bare(text: str) -> str:
    """A text without brackets, quotes and a full stop around it, in lower case."""
    return " ".join(text.casefold().split()).strip(" \"'()[]{}<>").rstrip(".!,;:").strip()


def _joined_words(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", _bare(text)).strip()


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
    text = _MARKED.sub(r"\1\2: ", _TITLE.sub("", text))
    text = text if "{" in text else _QUOTED.sub(r"\1: ", text)
    return _TWICE.sub("", _ALONE.sub("Answer: ", text))


def other_named(text: str) -> tuple[int, str] | None:
    """Start and content of the last line such as `Label: x`, or None."""
    found = [(line.start(), line[1]) for line in _OTHER_NAME.finditer(text)]
    return found[-1] if found else None
