"""Runs the checks over rows, and puts their findings into a report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypedDict

from distill.common.accuracy import matches_exactly
from distill.common.phrases import number_of
from distill.common.progress import Progress
from distill.common.safe_points import safe_point
from distill.data.check.duplicates import DuplicateCheck, ExemplarCheck
from distill.data.check.findings import LEVELS, Finding
from distill.data.check.labels import LabelCheck
from distill.data.check.rationales import RationaleCheck
from distill.data.check.tokens import TokenCheck
from distill.data.examples import Example
from distill.data.vocabularies import Vocabulary
from distill.errors import UserError

SPLIT_NAMES = {"train": "training"}  # what people read
_MOST_BARS = 40  # classes or lengths of a chart


class Check(Protocol):
    """What looks at rows one by one, and then says what it found."""

    def add(self, split: str, row: Example) -> None:
        """Takes a row into account."""

    def findings(self) -> Iterator[Finding]:
        """What was found."""


class FindingRecord(TypedDict):
    """A finding, as JSON."""

    check: str
    level: str
    text: str
    count: int
    of: int
    rows: list[str]


class LengthRecord(TypedDict):
    """Token counts of a field: `lengths` are pairs of a number of tokens and how many texts."""

    texts: int
    tokens: int
    unknown: int
    longest: int
    percentile_95: int
    characters: dict[str, int]
    lengths: list[list[int]]


class Report(TypedDict):
    """What `check_rows` gives."""

    name: str
    rows: dict[str, int]
    counts: dict[str, int]
    findings: list[FindingRecord]
    classes: dict[str, int]
    tokens: dict[str, LengthRecord]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What rows are checked against.

    Attributes:
      label_source: whose labels train, "gold" or "teacher".
      labels: the closed label set; () if there is none.
      same: whether an answer counts as a label.
      vocabulary: that of the run; None leaves the checks of tokens out.
      limits: INPUT_LENGTH and TARGET_LENGTH, as far as they are known.
      prefix: what stands before each input.
      mark: what stands for EOS within inputs.
      exemplars: inputs of the exemplars of a prompt.
    """

    label_source: str = "gold"
    labels: Sequence[str] = ()
    same: Callable[[str, str], bool] = matches_exactly
    vocabulary: Vocabulary | None = None
    limits: dict[str, int] = dataclasses.field(default_factory=dict)
    prefix: str = ""
    mark: str = ""
    exemplars: Sequence[str] = ()


Rows = Callable[[], Iterable[Example]]  # gives the rows anew with each call


def check_rows(name: str, splits: dict[str, Rows], settings: Settings) -> Report:
    """Checks rows in one pass, and in a second one names rows that repeat others.

    Memory does not grow with the number of rows: no row is kept, a check counts at most
    `MOST_DISTINCT` texts, and digests of many rows are in temporary files (`PairTables`).

    Args:
      name: of the rows, for the report.
      splits: the rows of "train" and, if there are any, of "test".
      settings: what they are checked against.

    Raises:
      UserError: what the readers of the rows refuse; no temporary file can be written.
    """
    labels = LabelCheck(settings.label_source, settings.labels, settings.same)
    rationales = RationaleCheck(settings.label_source, settings.labels)
    duplicates = DuplicateCheck(settings.label_source)
    exemplars = ExemplarCheck(settings.exemplars)
    tokens = None
    if settings.vocabulary is not None:
        tokens = TokenCheck(
            settings.vocabulary,
            settings.label_source,
            settings.limits,
            settings.same,
            settings.prefix,
            settings.mark,
        )
    checks: list[Check] = [labels, rationales, duplicates, exemplars, *([tokens] if tokens else [])]
    counts: Counter[str] = Counter(dict.fromkeys(splits, 0))
    for split, row in _each(splits, "checking"):
        counts[split] += 1
        for check in checks:
            check.add(split, row)
    if not sum(counts.values()):
        raise UserError(f"{name} has no rows to check")
    if duplicates.close():
        for split, row in _each(splits, "finding the rows that repeat others"):
            duplicates.show(split, row)
    found = [finding for check in checks for finding in check.findings()]
    found.sort(key=lambda finding: LEVELS.index(finding.level))
    return {
        "name": name,
        "rows": dict(counts),
        "counts": {level: sum(f.level == level for f in found) for level in LEVELS},
        "findings": [_record(finding) for finding in found],
        "classes": dict(labels.train.most_common(_MOST_BARS)) if labels.classes else {},
        "tokens": _tokens(tokens),
    }


def _each(splits: dict[str, Rows], what: str) -> Iterator[tuple[str, Example]]:
    for split, rows in splits.items():
        given = rows()
        total = len(given) if isinstance(given, Sequence) else None
        with Progress(total, f"{what} ({split})", leave=False, delay=1.0) as bar:
            for row in given:
                safe_point()
                bar.update(1)
                yield split, row


def _record(finding: Finding) -> FindingRecord:
    return {
        "check": finding.check,
        "level": finding.level,
        "text": finding.text,
        "count": finding.count,
        "of": finding.of,
        "rows": list(finding.rows),
    }


def _tokens(check: TokenCheck | None) -> dict[str, LengthRecord]:
    if check is None:
        return {}
    return {
        name: {
            "texts": counts.texts,
            "tokens": counts.tokens,
            "unknown": counts.unknown,
            "longest": max(counts.lengths),
            "percentile_95": counts.percentile(0.95),
            "characters": dict(counts.characters.most_common(_MOST_BARS)),
            "lengths": [list(pair) for pair in sorted(counts.lengths.items())],
        }
        for name, counts in check.fields.items()
        if counts.texts
    }


def render_text(report: Report) -> str:
    """The report as lines of text, the worst first."""
    rows = ", ".join(
        number_of(count, f"{SPLIT_NAMES.get(split, split)} row")
        for split, count in report["rows"].items()
    )
    counts = ", ".join(number_of(count, level) for level, count in report["counts"].items())
    lines = [f"{report['name']}: {rows}; {counts}"]
    for finding in report["findings"]:
        examples = f" (rows {', '.join(finding['rows'])})" if finding["rows"] else ""
        lines.append(f"{finding['level']}: {finding['text']}{examples} [{finding['check']}]")
    return "\n".join(lines)
