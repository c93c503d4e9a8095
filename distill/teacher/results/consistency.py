"""Self-consistency: several samples of a row become one label and the reasons that agree.

Source: Wang et al. 2023, "Self-consistency improves chain of thought reasoning in
language models" (arXiv 2203.11171): the majority of the sampled answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from distill.data.examples import Failure
from distill.data.released.completions import Completion


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What N samples of a row say together.

    Attributes:
      label: the majority's, or None where no sample has one.
      failure: of the first sample where there is no label; `no_rationale` where no
        sample of the majority gives a reason; else the chosen sample's own, or None.
      agreement: votes for the label / N; samples without a label vote for nothing.
      chosen: number of the sample whose label and rationale are the row's.
      samples: numbers of the samples of the majority that give different reasons, the chosen
        one first.
    """

    label: str | None
    failure: Failure | None
    agreement: float
    chosen: int
    samples: tuple[int, ...] = ()


def vote(samples: Sequence[Completion], same: Callable[[str, str], bool]) -> Verdict:
    """The majority label; of labels with equally many votes the one that came first.

    Args:
      samples: N parsed completions, at least one.
      same: whether two labels are one (equations of equal value are).
    """
    groups: list[list[int]] = []
    labels: list[str] = []  # of the groups
    for number, sample in enumerate(samples):
        if sample.label is None:
            continue
        for label, group in zip(labels, groups, strict=True):
            if same(label, sample.label):
                group.append(number)
                break
        else:
            groups.append([number])
            labels.append(sample.label)
    if not groups:
        return Verdict(None, samples[0].failure or Failure.NO_ANSWER, 0.0, 0)
    majority = max(groups, key=len)  # the first of the largest
    with_reason = [number for number in majority if samples[number].rationale]
    chosen = next((n for n in with_reason if samples[n].failure is None), None)
    chosen = chosen if chosen is not None else (with_reason or majority)[0]
    ordered = [chosen, *(number for number in with_reason if number != chosen)]
    first: dict[str, int] = {}  # rationale -> the first sample with it
    for number in ordered:
        rationale = samples[number].rationale
        if rationale:
            first.setdefault(rationale, number)
    return Verdict(
        label=samples[chosen].label,
        failure=samples[chosen].failure,
        agreement=len(majority) / len(samples),
        chosen=chosen,
        samples=tuple(first.values()),
    )
