"""Reads label and rationale out of an answer, in whichever form a model writes it.

A label that the reader of the released completions finds stays the label. Beyond it, Markdown,
LaTeX, JSON, tokens of chat templates and more answer phrases are read, and rationales come out
without marks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

from distill.data.examples import Failure
from distill.data.released.completions import Completion, without_run_on
from distill.teacher.answers.forms import Reader, joined, names, other_named
from distill.teacher.answers.json_answers import read_json
from distill.teacher.answers.latex import last_boxed, without_latex
from distill.teacher.answers.marks import end_at_turn, without_marks
from distill.teacher.answers.rationales import clean

_NOTHING_READ = (
    Failure.NO_ANSWER,
    Failure.LABEL_OUTSIDE_SET,
    Failure.MALFORMED_EQUATION,
    Failure.NO_COMPLETION,
)
_ENDS = re.compile(r"(?<=[.!?])[ \t]+")
_LAST_SENTENCES = 2  # an answer such as "B. sky" has two
_OPERATOR = re.compile(r"[-+*/=]")  # an equation without one is a number, which may be anything
# A line with which models invent the next turn of a conversation.
_NEXT_TURN = re.compile(
    r"^[ \t*#]{0,8}(?:Human|User|Instructions?|System)\b[ \t*]{0,4}:", re.MULTILINE
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")


def read(text: str, reader: Reader, lenient: bool = False) -> Completion:
    """Reads an answer.

    Args:
      text: the answer, without thoughts.
      reader: what the answer may be.
      lenient: whether to take the label that the text names if there is no answer of any form and
        the text names exactly one label of a closed set; its failure is `lenient_label`.

    Returns:
      Label, rationale and failure. The failures are those of the released completions' readers.
    """
    text = end_at_turn(text)
    turn = _NEXT_TURN.search(text)
    if turn:
        first = read(text[: turn.start()], reader)
        if first.label is not None:
            return first
    said = read_json(text)
    if said:
        return _from_json(text, *said, reader)
    found = _read_phrases(text, reader)
    if found.label is None and found.failure in _NOTHING_READ:
        said = read_json(text, inline=True)
        if said:
            return _from_json(text, *said, reader)
        plain = _plain(text)
        for other in _other_forms(text, plain, reader, found.failure):
            found = other
            break
        else:
            if lenient:
                found = _lenient(plain, reader) or found
    return _tidy(found)


def read_up_to_stops(
    text: str, reader: Reader, stops: Sequence[str], cues: Sequence[str], lenient: bool = False
) -> tuple[Completion, str]:
    """Reads an answer up to the first stop.

    If nothing can be read before a stop that is only white space ("\\n\\n"), the paragraphs after
    it are read too, up to a stop with other characters or a line that starts with a cue.

    Args:
      text: the answer, without thoughts.
      reader, lenient: as in `read`.
      stops: texts at which an answer ends.
      cues: what the lines of a question start with ("Premise:").

    Returns:
      What it says, and the text that was read.
    """
    text = text.lstrip()
    first = cut_at_stops(text, stops)
    said = read(first, reader, lenient)
    longer = cut_at_stops(text, [stop for stop in stops if stop.strip()])
    if said.label is not None or len(longer) == len(first):
        return said, first
    longer = _before_cue(longer, len(first), cues)
    other = read(longer, reader, lenient)
    return (other, longer) if other.label is not None else (said, first)


def cut_at_stops(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop that follows any text."""
    ends = [text.find(stop) for stop in stops]
    return text[: min((end for end in ends if end > 0), default=len(text))]


def _before_cue(text: str, start: int, cues: Sequence[str]) -> str:
    """The text before the first line after `start` that begins with a cue."""
    if not cues:
        return text
    cue = re.compile(
        r"^[ \t*#>]{0,8}(?:" + "|".join(map(re.escape, cues)) + ")", re.MULTILINE | re.IGNORECASE
    )
    found = cue.search(text, start)
    return text[: found.start()] if found else text


def _plain(text: str) -> str:
    """The text before an invented question, without marks; lines stay apart."""
    return joined(without_run_on(without_latex(without_marks(text))))


def _read_phrases(text: str, reader: Reader) -> Completion:
    """Reads the last answer phrase; what the released completions' reader finds stays."""
    released = reader.released(text)
    said = reader.parse(_plain(text))
    if said.label is None and (released.label is not None or said.failure == Failure.NO_COMPLETION):
        return released
    closed = reader.kind in ("nli", "choice")
    if closed and released.label not in (None, said.label):
        return released
    return said


def _other_forms(
    text: str, plain: str, reader: Reader, failure: Failure | None
) -> Iterator[Completion]:
    """What other forms of an answer say that give a label: a box, a named line, a line alone."""
    boxed = last_boxed(without_marks(text))
    if boxed:
        yield from _boxed(without_marks(text), boxed, reader)
    if reader.kind == "free":
        return
    named = other_named(plain)
    if named and failure in (Failure.NO_ANSWER, Failure.NO_COMPLETION):
        label, doubt = reader.named(named[1])
        if label is not None:
            yield Completion(label, plain[: named[0]], doubt)
    lines = [line for line in plain.split("\n") if line.strip()]
    labels = {number: label for number, line in enumerate(lines) if (label := reader.whole(line))}
    if len(labels) == 1:
        ((number, label),) = labels.items()
        if number == len(lines) - 1:
            yield Completion(label, "\n".join(lines[:number]), None)
    elif not labels and lines:
        label = reader.whole(lines[-1], sentence=True)
        if label is not None and (reader.kind != "equation" or _OPERATOR.search(label)):
            yield Completion(label, "\n".join(lines[:-1]), None)
        yield from _last_sentence(lines, reader)


def _last_sentence(lines: Sequence[str], reader: Reader) -> Iterator[Completion]:
    """What the end of the last line names, if it is nothing but an answer: "... B. sky"."""
    line = lines[-1]
    starts = [match.end() for match in _ENDS.finditer(line)][-_LAST_SENTENCES:]
    for start in starts:
        label = reader.whole(line[start:]) or reader.whole(line[start:], sentence=True)
        if label is None:
            continue
        number = reader.kind == "equation" and not _OPERATOR.search(label)
        if not number and not any(map(reader.whole, _ENDS.split(line[:start]))):
            yield Completion(label, "\n".join([*lines[:-1], line[:start]]), None)
        return


def _boxed(text: str, boxed: tuple[int, int, str], reader: Reader) -> Iterator[Completion]:
    r"""What a `\boxed{...}` names.

    The rationale is the text before the sentence with the box, else this sentence.
    """
    start, end, content = boxed
    label, failure = reader.named(without_latex(content))
    if label is None:
        return
    before = without_latex(text[:start])
    sentences = _SENTENCES.split(before)
    reasons = " ".join(sentences[:-1])
    if not reasons.strip(" $") and sentences[-1].strip(" $"):
        reasons = without_latex(text[:end])
    yield Completion(label, reader.parse(f"{reasons}\nAnswer: {label}").rationale, failure)


def _lenient(plain: str, reader: Reader) -> Completion | None:
    """The one label of a closed set that a text names."""
    text = " ".join(plain.casefold().split())
    named = {label for label in dict.fromkeys(reader.labels) if names(text, label)}
    # "lake shore" also names "lake".
    named -= {short for short in named for long in named if short != long and names(long, short)}
    if len(named) != 1:
        return None
    (label,) = named
    sentences = _SENTENCES.split(plain)
    reasons = [one for one in sentences if not names(one, label)]
    return Completion(label, " ".join(reasons), Failure.LENIENT_LABEL)


def _from_json(text: str, answer: str, rationale: str, reader: Reader) -> Completion:
    answer, rationale = (without_latex(without_marks(t)).strip() for t in (answer, rationale))
    label, failure = reader.named(answer)
    if not rationale:  # what comes before the object, but for a line that announces it
        before = text[: min(at for at in (text.find("```"), text.find("{")) if at >= 0)]
        rationale = "\n".join(
            line for line in _plain(before).split("\n") if not line.rstrip().endswith(":")
        ).strip()
    if label is not None and rationale:
        said = reader.parse(f"{rationale}\nAnswer: {' '.join(answer.split())}")
        rationale = said.rationale or "" if said.label == label else rationale
    return _tidy(Completion(label, rationale, failure))


def _tidy(said: Completion) -> Completion:
    """The same with a clean rationale; the failure says if there is none."""
    rationale = clean(said.rationale)
    failure = said.failure
    if said.label is not None and rationale is None and failure is None:
        failure = Failure.NO_RATIONALE
    return dataclasses.replace(said, rationale=rationale, failure=failure)
