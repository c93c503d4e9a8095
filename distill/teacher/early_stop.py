"""Stops a job whose answers cannot be read, before it pays for more of them.

The first request runs alone, the next 20 answers come at a concurrency of 4. From 20 answers on
the job ends when the share with a label is below a floor. Answers that earlier runs of the same
job stored count too, so that the same command does not pay for 20 more.
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from distill.common.phrases import have, number_of
from distill.common.terminal import printable
from distill.data.examples import Example
from distill.teacher.answers.problems import ADVICE, PAID_FAILURES
from distill.teacher.answers.thoughts import has_thoughts
from distill.teacher.prompts import Prompt
from distill.teacher.results.aggregate import parse_record
from distill.teacher.samples import stored_key
from distill.teacher.sampling import Digests
from distill.teacher.storage.store import Store

PROBED = 20  # answers before the full concurrency
AT_ONCE = 4  # requests at once until then
LOOKED_AT = 200  # rows among which stored answers are looked for
_SHAPES = 100  # kinds of answers that are told apart
_BEGINNING, _END = 90, 60  # characters of an answer that are shown
# A word that is neither in a tag nor before a colon (U+FF1A is that of Chinese).
_WORD = re.compile(r"(?<!</)(?<!<)\b[^\W_]++(?!\**[:\uff1a]|>)")
_WORDS = re.compile(r"\bw\b(?:['\u2019.,;!?/ -]+w\b)*+[.,;!?]*")


class Readings:
    """Counts the answers from which a label can be read, and the forms of the others.

    Attributes:
      read: answers that were looked at.
      parsed: those of them with a label.
    """

    def __init__(self, prompt: Prompt, floor: float) -> None:
        """Starts with nothing read.

        Args:
          prompt: whose parser reads the answers.
          floor: the least share of answers with a label, 0 for none.
        """
        self.read = self.parsed = 0
        self._prompt, self._floor = prompt, floor
        self._failures: collections.Counter[str] = collections.Counter()
        self._shapes: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, str] = {}
        self._cut_off = 0

    def add(self, row: Example, record: Mapping[str, Any]) -> bool:
        """Counts the record of an answer to a row; whether it has a label."""
        self.read += 1
        found = parse_record(self._prompt, row, record)
        if found.label is not None:
            self.parsed += 1
            return True
        self._failures[str(found.failure)] += 1
        self._cut_off += record.get("finish") == "length"
        text = str(record.get("completion") or "") or f"[{found.failure}]"
        shape = _shape(text)
        if shape in self._shapes or len(self._shapes) < _SHAPES:
            self._shapes[shape] += 1
            self._examples.setdefault(shape, text)
        return False

    @property
    def is_probed(self) -> bool:
        """Whether enough answers were read to go on at the full concurrency."""
        return self.read >= PROBED

    @property
    def wants_labels(self) -> bool:
        """Whether answers without a label matter at all."""
        return self._floor > 0

    def why_stop(self) -> str | None:
        """Why the job should end now; None if it should not."""
        if not self.is_probed or self.parsed >= self._floor * self.read:
            return None
        return (
            f"{self.parsed:,} of {number_of(self.read, 'answer')} {have(self.parsed)} a label that "
            "can be read, and "
            f"--min_parsed asks for {self._floor:.0%}. {self.describe()} --min_parsed=0 "
            "continues in any case"
        )

    def describe(self) -> str:
        """What the answers without a label look like, and what to change."""
        failures = ", ".join(f"{n:,} {name}" for name, n in self._failures.most_common())
        shown = "; ".join(
            f"{count:,} like '{_excerpt(self._examples[shape])}'"
            for shape, count in self._shapes.most_common(3)
        )
        longer = ""
        if 2 * self._cut_off >= self.read - self.parsed:
            longer = (
                f"{self._cut_off:,} of them were cut off at --max_tokens: raise it, or ask for "
                "shorter answers. "
            )
        common = self._failures.most_common(1)
        if common and common[0][0] in ADVICE:
            return f"The others ({failures}): {shown}. {ADVICE[common[0][0]]}"
        return (
            f"The others ({failures}): {shown}. {longer}Either the model does not answer in the "
            f"form that the prompt {self._prompt.name!r} shows, or the prompt's parser or labels "
            "do not fit. Change the prompt file. If only its parser or labels change, the stored "
            "answers are read again and not paid for again."
        )


def read_stored(
    readings: Readings,
    rows: Sequence[Example],
    digests: Digests,
    store: Store,
    retry_failed: bool,
) -> bool:
    """Looks at answers that earlier runs stored, as many as a run without them would.

    Args:
      readings: which the answers are added to.
      rows, digests, store: of the job.
      retry_failed: whether failed answers are asked for again, so that they say nothing.

    Returns:
      Whether any of them has thoughts; for this, answers that were asked for with other stops or
      another longest completion count too.
    """
    thoughts = False
    for row in itertools.islice(rows, LOOKED_AT):
        record = store.get(stored_key(store, digests, row, 0)) or {}
        failed = not retry_failed and record.get("failure") in PAID_FAILURES
        if record.get("ok") or failed:
            readings.add(row, record)
        for each in (digests, *digests.others(store.described)):
            other = store.get(store.key_for(row.id, each.of(row), 0)) or {}
            thoughts = thoughts or has_thoughts(other)
        if readings.is_probed:
            break
    return thoughts


def _shape(text: str) -> str:
    """The form of an answer: its marks, tags and the names before colons, without its words."""
    marks = _WORDS.sub("w", _WORD.sub("w", text))
    return re.sub(r"\s+", " ", marks).strip()[:200]


def _excerpt(text: str) -> str:
    """The beginning and the end of an answer, safe to show."""
    text = " ".join(text.split(" "))
    if len(text) > _BEGINNING + _END + 5:
        text = f"{text[:_BEGINNING]} ... {text[-_END:]}"
    return printable(text, keep="")
