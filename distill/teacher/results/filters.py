"""Which annotated rows are kept for training; each row that is dropped has one typed reason."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from distill.common.flags import check_bounds, flag
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.data.examples import Example


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

    A row without a rationale has 0 words; a row without a gold label passes `gold_only`.
    """

    drop_unparsed: bool = flag(False, "drop rows whose label could not be read")
    min_agreement: float = flag(
        0.0,
        "drop rows where less than this share of the samples agrees on the label",
        least=0,
        most=1,
    )
    gold_only: bool = flag(False, "drop rows whose label is not the gold label")
    min_words: int | None = flag(None, "drop rows whose rationales all have fewer words", least=0)
    max_words: int | None = flag(None, "drop rows whose rationales all have more words", least=0)
    drop_leaks: bool = flag(False, "drop rows whose rationales all contain the label")

    def __post_init__(self) -> None:
        check_bounds(self)
        shortest, longest = self.min_words, self.max_words
        if shortest is not None and longest is not None and shortest > longest:
            raise UserError(
                f"got --min_words {self.min_words} and --max_words {self.max_words}, expected "
                "--min_words <= --max_words"
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
