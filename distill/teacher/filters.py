"""Which annotated rows are kept for training; each row that is dropped has one typed reason."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Sequence

from distill.data.examples import Example
from distill.errors import UserError


class Dropped(enum.StrEnum):
    """Why a row is left out."""

    UNPARSED = "unparsed"  # no teacher label
    AGREEMENT = "agreement"  # too few samples say the same
    GOLD = "gold"  # the teacher's label is not the gold one
    LENGTH = "length"  # the rationale is too short or too long
    LEAKAGE = "leakage"  # the rationale names the label


@dataclasses.dataclass(frozen=True)
class Filters:
    """The filters of a job; none by default.

    Attributes:
      drop_unparsed: rows without a teacher label.
      min_agreement: least share of samples with the majority's label, 0 to 1.
      gold_only: rows with a gold label that the teacher's label does not match.
      min_words, max_words: length of a rationale in words; None is no bound. A row
        without a rationale has 0 words.
      drop_leaks: rationales in which the label stands as a word.
    """

    drop_unparsed: bool = False
    min_agreement: float = 0.0
    gold_only: bool = False
    min_words: int | None = None
    max_words: int | None = None
    drop_leaks: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_agreement <= 1:
            raise UserError(f"got --min_agreement {self.min_agreement}, expected 0 to 1")
        for name in ("min_words", "max_words"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"got --{name} {value}, expected at least 0")
        if None not in (self.min_words, self.max_words) and self.min_words > self.max_words:
            raise UserError(
                f"got --min_words {self.min_words} and --max_words {self.max_words}: no rationale "
                "is both as long and as short"
            )

    def why_not(
        self, row: Example, agreement: float, same: Callable[[str, str], bool]
    ) -> Dropped | None:
        """Why an annotated row is dropped, or None if it is kept.

        A row without a teacher label is only dropped by `drop_unparsed`: its gold label,
        if it has one, can still be trained on.
        """
        if row.teacher_label is None:
            return Dropped.UNPARSED if self.drop_unparsed else None
        if agreement < self.min_agreement:
            return Dropped.AGREEMENT
        if self.gold_only and row.label is not None and not same(row.teacher_label, row.label):
            return Dropped.GOLD
        words = len((row.rationale or "").split())
        too_long = self.max_words is not None and words > self.max_words
        if words < (self.min_words or 0) or too_long:
            return Dropped.LENGTH
        if self.drop_leaks and leaks(row.rationale or "", row.teacher_label):
            return Dropped.LEAKAGE
        return None

    def passing(
        self,
        readings: Sequence[tuple[Example, str]],
        agreement: float,
        same: Callable[[str, str], bool],
    ) -> list[tuple[Example, str]]:
        """The readings of a row (with their completions) that are kept."""
        return [one for one in readings if not self.why_not(one[0], agreement, same)]


def leaks(rationale: str, label: str) -> bool:
    """Whether a label stands in a rationale, as whole words, case and spacing aside."""
    text, phrase = (" ".join(t.casefold().split()) for t in (rationale, label))
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None
