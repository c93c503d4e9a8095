"""How token sequences compare with their limit, and how much of them the vocabulary lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass
class SequenceCounts:
    """Counts over sequences before they are cut.

    Attributes:
      sequences: how many there are.
      cut: those over the limit.
      longest: tokens of the longest one, EOS and what is before it included: the limit that would
        hold all. Of inputs, the prefixes of all tasks are considered, so that training and scoring
        name the same limit.
      tokens: of all of them.
      unknown: tokens that stand for what the vocabulary does not have.
    """

    sequences: int = 0
    cut: int = 0
    longest: int = 0
    tokens: int = 0
    unknown: int = 0

    def add(
        self, ids: Sequence[int] | np.ndarray, limit: int, unk_id: int, before: int = 0
    ) -> bool:
        """Counts a sequence [T]; returns whether it has to be cut.

        Args:
          ids: its tokens.
          limit: tokens that it may have together with those before it.
          unk_id: the id of what the vocabulary does not have.
          before: tokens that stand in front of it and count toward the limit.
        """
        is_cut = before + len(ids) > limit
        self.sequences += 1
        self.cut += is_cut
        self.longest = max(self.longest, before + len(ids))
        self.tokens += len(ids)
        self.unknown += int(np.count_nonzero(np.asarray(ids) == unk_id))
        return is_cut

    @classmethod
    def total(cls, parts: Iterable[SequenceCounts]) -> SequenceCounts:
        """The counts of all parts together."""
        total = cls()
        for part in parts:
            total.sequences += part.sequences
            total.cut += part.cut
            total.longest = max(total.longest, part.longest)
            total.tokens += part.tokens
            total.unknown += part.unknown
        return total
