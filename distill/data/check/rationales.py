"""Checks of the rationales: missing, repeated, without content, and whether they name labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from distill.common.hashing import digest63
from distill.common.pair_tables import PairTables
from distill.common.phrases import have, share
from distill.data.budget import label_of
from distill.data.check.findings import NOTE, WARNING, Finding, add_bounded, level_of, listed, shown
from distill.data.check.labels import plain
from distill.data.examples import Example

_WORD = re.compile(r"\w+")
_SHORT = 3  # words; a rationale of fewer says little
_MOST = 0.5  # share of rows with the same rationale that is a warning


def names(text: str, label: str) -> bool:
    """Whether a text has the words of a label in it, one after the other, in any case."""
    wanted = _WORD.findall(label.casefold())
    if not wanted:
        return label.strip() in text
    return f" {' '.join(wanted)} " in f" {' '.join(_WORD.findall(text.casefold()))} "


class RationaleCheck:
    """Counts the rationales of training rows."""

    def __init__(self, label_source: str, closed: Sequence[str], all_repeats: bool = True) -> None:
        """Starts without rows.

        Args:
          label_source: whose labels train.
          closed: the closed label set; () if there is none, or each row has its own.
          all_repeats: whether to count all rationales that occur more than once (`PairTables`), not
            only the most frequent one.
        """
        self._source, self._closed = label_source, tuple(closed)
        self._rows = self._usable = self._without = self._with = self._labeled = 0
        self._named = self._other = self._is_label = self._is_input = self._short = 0
        self._texts: Counter[str] = Counter()
        self._digests = PairTables("texts") if all_repeats else None
        self._examples: dict[str, list[str]] = {}

    def add(self, split: str, row: Example) -> None:
        """Counts a row; test rows have no rationale to train on."""
        if split == "test":
            return
        self._rows += 1
        if label_of(row, self._source) is not None:  # others do not train
            self._usable += 1
            self._without += row.rationale is None
        for rationale in (row.rationale, *row.more_rationales):
            if rationale is not None:
                self._with += 1
                self._count(row, rationale, label_of(row, self._source))

    def _count(self, row: Example, text: str, label: str | None) -> None:
        if self._digests is not None:
            self._digests.add("texts", digest63(text))
        add_bounded(self._texts, text)
        if plain(text) == plain(row.input):
            self._is_input += 1
            self._note("rationale_is_input", row)
        if label is None:
            return
        self._labeled += 1
        if plain(text) == plain(label):
            self._is_label += 1
            self._note("rationale_is_label", row)
        elif len(text.split()) < _SHORT:
            self._short += 1
            self._note("short_rationales", row)
        named = names(text, label)
        self._named += named
        others = (each for each in row.choices or self._closed if each != label)
        if not named and any(names(text, other) for other in others):
            self._other += 1
            self._note("rationale_names_another", row)

    def _note(self, check: str, row: Example) -> None:
        ids = self._examples.setdefault(check, [])
        if len(ids) < 3 and row.id not in ids:
            ids.append(row.id)

    def findings(self) -> Iterator[Finding]:
        """What was found; nothing if no row has a rationale."""
        if not self._with:
            if self._rows:
                yield Finding(
                    "no_rationale", NOTE, "no training row has a rationale", self._rows, self._rows
                )
            return
        missing = self._without
        if missing:
            yield Finding(
                "no_rationale",
                level_of(missing, self._usable),
                f"{share(missing, self._usable, 'labeled training row')} {have(missing)} no "
                f"rationale and {have(missing, 'trains', 'train')} only the label",
                missing,
                self._usable,
            )
        yield from self._repeated()
        for check, count, what in (
            ("rationale_is_label", self._is_label, "only the label"),
            ("rationale_is_input", self._is_input, "the input again"),
            ("short_rationales", self._short, f"fewer than {_SHORT} words"),
        ):
            if count:
                verb = have(count, "is", "are") if "words" not in what else have(count)
                text = f"{share(count, self._with, 'rationale')} {verb} {what}"
                yield self._finding(check, level_of(count, self._with), text, count)
        if self._labeled:
            verb = have(self._named, "contains", "contain")
            text = f"{share(self._named, self._labeled, 'rationale')} {verb} the words of the label"
            yield self._finding("rationales_name_label", NOTE, text, self._named)
        if self._other:
            text = f"{share(self._other, self._labeled, 'rationale')} "
            text += f"{have(self._other, 'names', 'name')} another label, and not that of the row"
            yield self._finding("rationale_names_another", NOTE, text, self._other)

    def _repeated(self) -> Iterator[Finding]:
        if self._with < 2:
            return
        ((text, most),) = self._texts.most_common(1)
        if most > _MOST * self._with:
            yield Finding(
                "one_rationale",
                WARNING,
                f"{share(most, self._with, 'rationale')} {have(most, 'is', 'are')} {shown(text)}, "
                "which says nothing about the row",
                most,
                self._with,
            )
        if self._digests is None or not (repeated := self._digests.repeated("texts")):
            return
        different = self._digests.number("SELECT count(DISTINCT key) FROM texts")
        line = (
            f"{share(repeated, self._with, 'rationale')} {have(repeated, 'occurs', 'occur')} more "
        )
        line += f"than once; {different:,} of all are different; the most frequent: "
        line += listed([(text, most)])
        yield Finding("repeated_rationales", NOTE, line, repeated, self._with)

    def _finding(self, check: str, level: str, text: str, count: int) -> Finding:
        rows = tuple(self._examples.get(check, ()))
        return Finding(check, level, text, count, self._with, rows)
