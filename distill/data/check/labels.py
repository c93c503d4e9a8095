"""Checks of the labels: classes, spelling, prefixes, and the teacher's accuracy."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from distill.common.phrases import have, number_of, share
from distill.data.budget import label_of
from distill.data.check.findings import (
    NOTE,
    PROBLEM,
    WARNING,
    Finding,
    add_bounded,
    level_of,
    listed,
    shown,
)
from distill.data.examples import Example
from distill.data.mapping.unused import unused_fields

_MOST_CLASSES = 200  # labels of a set that counts as closed without being given
_ROWS_PER_CLASS = 10  # rows a label of such a set has at least, on average
_FEW = 5  # training rows of a class that are too few
_SKEWED = 0.9  # share of the largest class
ALIKE = "labels that differ only in case, spaces or punctuation count as different"
_EDGES = re.compile(r"^\W+|\W+$")


def plain(text: str) -> str:
    """A label without case, runs of spaces, and punctuation at its ends."""
    return " ".join(_EDGES.sub("", text).casefold().split())


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of labels, of several each, that are the same to `plain`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[plain(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


class LabelCheck:
    """Counts the labels of the rows; memory grows with the number of distinct labels."""

    def __init__(
        self, label_source: str, closed: Sequence[str], same: Callable[[str, str], bool]
    ) -> None:
        """Starts without rows.

        Args:
          label_source: whose labels train, "gold" or "teacher".
          closed: the closed label set; () if there is none.
          same: whether a label counts as another one.
        """
        self._source, self._closed, self._same = label_source, tuple(closed), same
        self.train: Counter[str] = Counter()
        self.test: Counter[str] = Counter()
        self._rows = self._labeled = self._test_rows = self._tested = 0
        self._uncounted = 0
        self._has_choices = False
        self._choices: tuple[str, ...] | None = None
        self._one_set = True
        self._both = self._right = self._gold = self._teacher = 0
        self._unused = ""
        self._failures: Counter[str] = Counter()
        self._outside: Counter[str] = Counter()

    def add(self, split: str, row: Example) -> None:
        """Counts a row; those of "validation" count as training rows."""
        if split == "test":
            self._test_rows += 1
            if row.label is not None:
                self._tested += 1
                add_bounded(self.test, row.label)
            return
        if not self._rows:
            self._unused = unused_fields([row], "map the one that holds it with FIELDS or --field")
        self._rows += 1
        self._note_choices(row)
        label = label_of(row, self._source)
        if label is not None:
            self._labeled += 1
            self._uncounted += not add_bounded(self.train, label)
        self._gold += row.label is not None
        self._teacher += row.teacher_label is not None
        if label is None and self._source == "teacher" and row.failure is not None:
            add_bounded(self._failures, str(row.failure))
        if row.outside_label is not None:
            add_bounded(self._outside, row.outside_label)
        if row.label is not None and (row.teacher_label is not None or row.failure is not None):
            self._both += 1
            teacher = row.teacher_label
            self._right += teacher is not None and self._same(teacher, row.label)

    def _note_choices(self, row: Example) -> None:
        if self._choices is None:
            self._choices = row.choices
        self._one_set &= row.choices == self._choices

    @property
    def classes(self) -> tuple[str, ...]:
        """The closed label set: given, the choices of all rows, or few labels of many rows."""
        if self._closed:
            return self._closed
        if self._choices and self._one_set:
            return self._choices
        few = len(self.train) <= _MOST_CLASSES and not self._uncounted
        many = self._labeled >= _ROWS_PER_CLASS * len(self.train)
        return tuple(sorted(self.train)) if few and many and not self._choices else ()

    def findings(self) -> Iterator[Finding]:
        """What was found."""
        yield from self._missing()
        yield from self._balance()
        yield from self._spelling()
        yield from self._accuracy()

    def _missing(self) -> Iterator[Finding]:
        missing = self._rows - self._labeled
        if missing:
            kind = "gold" if self._source == "gold" else "teacher"
            reasons = f": {listed(self._failures.most_common())}" if self._failures else ""
            if reasons and (absent := missing - sum(self._failures.values())):
                reasons += f", not given {absent:,}"
            text = f"{share(missing, self._rows, 'training row')} {have(missing)} no {kind} label"
            level = PROBLEM if missing == self._rows else level_of(missing, self._rows)
            how = self._unused if missing == self._rows else ""
            yield Finding("no_label", level, f"{text}{reasons}{how}", missing, self._rows)
        if self._outside:
            count = sum(self._outside.values())
            yield Finding(
                "label_outside_set",
                level_of(count, self._rows),
                f"{share(count, self._rows, 'training row')} {have(count)} a teacher label outside "
                f"the label set: {listed(self._outside.most_common())}",
                count,
                self._rows,
            )
        unscored = self._test_rows - self._tested
        if unscored:
            yield Finding(
                "test_without_label",
                level_of(unscored, self._test_rows),
                f"{share(unscored, self._test_rows, 'test row')} {have(unscored)} no gold label "
                f"and {have(unscored, 'is', 'are')} not scored",
                unscored,
                self._test_rows,
            )

    def _balance(self) -> Iterator[Finding]:
        if self._labeled > 1 and len(self.train) == 1 and not self._uncounted:
            (label,) = self.train
            yield Finding(
                "one_class",
                PROBLEM,
                f"all {self._labeled:,} labeled training rows have the label {shown(label)}",
                self._labeled,
                self._labeled,
            )
            return
        if not self.classes:
            more = " at least" if self._uncounted else ""
            if self._labeled:
                text = f"open answers:{more} {len(self.train):,} different labels in "
                text += f"{number_of(self._labeled, 'row')}; the most frequent: "
                text += listed(self.train.most_common(3))
                yield Finding("classes", NOTE, text, len(self.train), self._labeled)
            return
        label, count = self.train.most_common(1)[0] if self.train else ("", 0)
        if not count:
            return
        skewed = count > _SKEWED * self._labeled
        text = f"{number_of(len(self.train), 'class')}: {listed(self.train.most_common(), 10)}; "
        text += (
            f"always answering {shown(label)} is right in {count / self._labeled:.1%} of the rows"
        )
        level = WARNING if skewed else NOTE
        yield Finding("class_balance", level, text, count, self._labeled)
        rare = [(name, self.train[name]) for name in self.classes if self.train[name] < _FEW]
        if rare and self._labeled >= 2 * _ROWS_PER_CLASS * len(self.classes):
            text = f"{len(rare):,} of {len(self.classes):,} classes {have(len(rare))} fewer than "
            text += f"{_FEW} training rows: {listed(rare)}"
            yield Finding("rare_classes", WARNING, text, len(rare), len(self.classes))
        unseen = [(name, n) for name, n in self.test.most_common() if name not in self.train]
        if unseen and not self._uncounted:
            rows = sum(count for _, count in unseen)
            text = f"{share(rows, self._tested, 'test row')} {have(rows)} a label that no training "
            text += f"row has: {listed(unseen)}"
            yield Finding("test_only_classes", WARNING, text, rows, self._tested)

    def _spelling(self) -> Iterator[Finding]:
        classes = self.classes
        if not classes:
            return
        counts = self.train + self.test
        names = {*classes, *counts}
        if groups := alike(names):
            texts = "; ".join(
                listed((name, counts[name]) for name in group) for group in groups[:3]
            )
            yield Finding(
                "labels_alike",
                WARNING,
                f"{ALIKE}: {texts}; write each label in one way",
                sum(len(group) for group in groups),
                len(names),
            )
        pairs = [
            (short, long)
            for short, long in itertools.combinations(sorted(names)[:1000], 2)
            if long.startswith(short)
        ]
        if pairs:
            texts = ", ".join(f"{shown(short)} of {shown(long)}" for short, long in pairs[:3])
            yield Finding(
                "label_prefixes",
                NOTE,
                f"{len(pairs):,} {have(len(pairs), 'label is', 'labels are')} the beginning of "
                f"another: {texts}; a student that stops too early answers the shorter one",
                len(pairs),
                len(names),
            )

    def _accuracy(self) -> Iterator[Finding]:
        if not self._both:
            return
        accuracy = self._right / self._both
        text = f"the teacher's label is right in {share(self._right, self._both, 'row')} that "
        text += "have both labels"
        level = NOTE
        if self._source == "gold" and self.classes and self.train:
            most = self.train.most_common(1)[0][1] / self._labeled
            if accuracy < most:
                level = WARNING
                text += f", less often than a constant answer ({most:.1%})"
        yield Finding("teacher_accuracy", level, text, self._right, self._both)
