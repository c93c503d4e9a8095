"""How answers are read: the flags of `distill annotate` for it."""

from __future__ import annotations

import dataclasses

from distill.common.flags import check_bounds, flag

SOURCES = ("answer", "reasoning", "both")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How labels and rationales are read out of answers; changes nothing that is sent."""

    rationale: str = flag(
        "answer",
        "the rationale: from the answer, from the model's reasoning before it, or both",
        choices=SOURCES,
    )
    reasoning_words: int = flag(
        100,
        "with --rationale=reasoning or both: keep at most this many words from the end",
        least=1,
    )
    lenient_labels: bool = flag(
        False,
        "if the parser does not recognize an answer, use the only label that its text names "
        "(closed label sets only); such rows have the failure lenient_label",
    )

    def __post_init__(self) -> None:
        check_bounds(self)
