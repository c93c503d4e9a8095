"""Measures rows in one pass that keeps none but candidates for exemplars."""

from __future__ import annotations

import dataclasses
import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from distill.common.hashing import digest64
from distill.data.examples import Example
from distill.data.vocabularies import Vocabulary, encode_input

MOST_LABELS = 100  # of a set that counts as closed without being given
_ROWS_PER_LABEL = 5  # rows that a label of such a set has at least, on average
_LONGEST_LABEL = 200  # characters of one of them
_CANDIDATES = 16  # rows of each label that may become exemplars
_SEED = 0


@dataclasses.dataclass
class Measured:
    """What was measured.

    Attributes:
      rows: all rows.
      labels: rows of each label, up to a limit of different ones.
      uncounted: labeled rows beyond that limit.
      choices: the choices of the first row.
      one_set: whether all rows have these.
      most_choices: choices of the row with the most.
      lengths: texts by tokens, of "input" (with its prefix), "label" and "rationale".
      tokens: of all texts of each kind.
      keys: of the labeled rows, see `key_of`.
      candidates: rows that may become exemplars, by label.
    """

    rows: int = 0
    labels: Counter[str] = dataclasses.field(default_factory=Counter)
    uncounted: int = 0
    choices: tuple[str, ...] = ()
    one_set: bool = True
    most_choices: int = 0
    lengths: dict[str, Counter[int]] = dataclasses.field(
        default_factory=lambda: {"input": Counter(), "label": Counter(), "rationale": Counter()}
    )
    keys: array[int] = dataclasses.field(default_factory=lambda: array("Q"))
    candidates: dict[str, list[tuple[int, str, Example]]] = dataclasses.field(default_factory=dict)

    @property
    def labeled(self) -> int:
        """Rows with a gold label."""
        return sum(self.labels.values()) + self.uncounted

    @property
    def closed(self) -> tuple[str, ...]:
        """The closed set of labels: the choices of all rows, or few labels of many rows."""
        if self.choices and self.one_set:
            return self.choices
        if self.most_choices or self.uncounted or not self.labels:
            return ()
        is_closed = (
            self.labeled >= _ROWS_PER_LABEL * len(self.labels)
            and max(map(len, self.labels)) <= _LONGEST_LABEL
        )
        return tuple(sorted(self.labels)) if is_closed else ()

    def longest(self, kind: str) -> int:
        """Tokens of the longest text of a kind; 0 without one."""
        return max(self.lengths[kind], default=0)

    def mean(self, kind: str) -> float:
        """Mean number of tokens of a kind of text; 0 without one."""
        texts = sum(self.lengths[kind].values())
        return sum(n * count for n, count in self.lengths[kind].items()) / texts if texts else 0.0

    def percentile(self, kind: str, fraction: float) -> int:
        """The number of tokens that this share of the texts does not exceed."""
        seen, texts = 0, sum(self.lengths[kind].values())
        for length in sorted(self.lengths[kind]):
            seen += self.lengths[kind][length]
            if seen >= fraction * texts:
                return length
        return 0


def key_of(row: Example) -> int:
    """The place of a row in the order that decides what is held out: equal inputs have the same.

    It is not the order of TEST_FRACTION, which else would find no test rows among the others.
    """
    return digest64("held out by distill new", _SEED, " ".join(row.input.casefold().split()))


def measure(
    rows: Iterable[Example], vocabulary: Vocabulary, prefix: str, measured: Measured
) -> None:
    """Adds rows to what is measured.

    Args:
      rows: the rows.
      vocabulary: that of the student.
      prefix: the longest text in front of an input.
      measured: is added to.
    """
    for row in rows:
        measured.rows += 1
        measured.lengths["input"][len(encode_input(vocabulary, prefix + row.input))] += 1
        for kind, texts in (("label", (row.label,)), ("rationale", _rationales(row))):
            for text in texts:
                if text is not None:
                    measured.lengths[kind][len(vocabulary.encode(text)) + 1] += 1
        _note_choices(row, measured)
        if row.label is None:
            continue
        measured.keys.append(key_of(row))
        if row.label in measured.labels or len(measured.labels) < MOST_LABELS:
            measured.labels[row.label] += 1
        else:
            measured.uncounted += 1
        group = row.label if row.label in measured.labels else ""
        # The rows of the smallest hashes: a sample that does not depend on the order of the file.
        heap = measured.candidates.setdefault(group, [])
        entry = (-digest64("exemplar", _SEED, row.id), row.id, row)
        if len(heap) < _CANDIDATES:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)


def _rationales(row: Example) -> Sequence[str | None]:
    return (row.rationale, *row.more_rationales)


def _note_choices(row: Example, measured: Measured) -> None:
    if measured.rows == 1:
        measured.choices = row.choices
    measured.one_set &= row.choices == measured.choices
    measured.most_choices = max(measured.most_choices, len(row.choices))


def held_out(measured: Measured, fraction: float, most: int) -> frozenset[int]:
    """The keys of the rows that are held out.

    They are those of labeled rows: a row without a label is held out only if it has the input of
    one that is, as it could not be scored.

    Args:
      measured: the labeled rows' keys.
      fraction: share of the labeled rows that is wanted.
      most: rows that are held out at most, about.

    Returns:
      The keys; none if the rest would have no labeled row.
    """
    if not measured.keys:
        return frozenset()
    ordered = np.sort(np.frombuffer(measured.keys, np.uint64))
    wanted = max(1, min(most, round(fraction * len(ordered))))
    last = ordered[wanted - 1]
    return frozenset(ordered[ordered <= last].tolist()) if last < ordered[-1] else frozenset()


def shared_inputs(test: Measured, train: Measured) -> int:
    """How many labeled test rows have the input of a labeled training row."""
    test_keys, train_keys = (np.frombuffer(each.keys, np.uint64) for each in (test, train))
    return int(np.isin(test_keys, train_keys).sum())


def exemplars(
    measured: Measured, per_label: int, most: int, allowed: Callable[[Example], bool]
) -> list[Example]:
    """Rows for a prompt: some of each label, the shorter ones of a sample.

    Args:
      measured: the candidates.
      per_label: how many of each label.
      most: how many in all.
      allowed: whether a row may be shown to the teacher.
    """
    chosen: list[list[Example]] = []
    for label, _ in [*measured.labels.most_common(), ("", 0)]:
        entries = sorted(measured.candidates.get(label, ()), key=lambda entry: -entry[0])
        rows = [row for _, _, row in entries if allowed(row)]
        middle = sorted(len(row.input) for row in rows)[len(rows) // 2] if rows else 0
        short = [row for row in rows if len(row.input) <= middle]
        distinct = list({row.input: row for row in short}.values())
        chosen.append(distinct[:per_label])
    turns = (rows[turn] for turn in range(per_label) for rows in chosen if turn < len(rows))
    return list(turns)[:most]
