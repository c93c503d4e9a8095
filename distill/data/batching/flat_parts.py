"""Flat batches in parts, which a step computes one after the other.

The gradient of a step is the sum of those of its parts. On a CPU, several parts cost less than one
large batch, and a step needs the memory of one part. All parts of a run have the same shapes, so
that one program computes them in a loop.
Shape letters: P parts, S sequences of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.data.batching import flat
from distill.data.batching.packing import TrainSequence

# Tokens of a part, inputs and targets, about; see "Flat batches in parts" in docs/speed.md.
_TOKENS = 3000


def suitable_parts(steps: flat.Steps) -> int:
    """The number of parts that suits one CPU.

    Args:
      steps: lengths of inputs and of targets of the sequences of some steps.
    """
    tokens = [int(inputs.sum() + targets.sum()) for inputs, targets in steps]
    return max(1, round(float(np.mean(tokens)) / _TOKENS))


def deal(inputs_S: np.ndarray, targets_S: np.ndarray, parts: int) -> list[np.ndarray]:
    """The sequences of each part, by number: parts of about equally many tokens on either side.

    P sequences of about one target length go to P different parts, the longest input to the part
    with the fewest input tokens so far.

    Args:
      inputs_S: lengths of the inputs.
      targets_S: lengths of the targets.
      parts: P.

    Returns:
      P arrays, in the order of the step, which hold S / P numbers each, or one more.
    """
    if parts == 1:
        return [np.arange(len(inputs_S))]
    dealt: list[list[int]] = [[] for _ in range(parts)]
    tokens_P = np.zeros(parts, int)
    by_target = np.argsort(-targets_S, kind="stable")
    for first in range(0, len(by_target), parts):
        group = by_target[first : first + parts]
        emptiest_first = np.argsort(tokens_P, kind="stable")
        longest_first = group[np.argsort(-inputs_S[group], kind="stable")]
        for part, sequence in zip(emptiest_first, longest_first, strict=False):
            dealt[part].append(int(sequence))
            tokens_P[part] += inputs_S[sequence]
    return [np.array(sorted(numbers), int) for numbers in dealt]


def deal_steps(steps: flat.Steps, parts: int) -> flat.Steps:
    """The lengths of each part of some steps, part by part."""
    return [
        (inputs[part], targets[part])
        for inputs, targets in steps
        for part in deal(inputs, targets, parts)
    ]


def lay_out(
    sequences: Sequence[TrainSequence], shapes: Sequence[flat.FlatShape], parts: int
) -> dict[str, np.ndarray] | None:
    """The flat batch of a step, in the first shape that all of its parts fit.

    Args:
      sequences: of the step.
      shapes: of `flat.choose_shapes`, smallest first.
      parts: P.

    Returns:
      The arrays of `flat.lay_out`; with several parts, those of all parts, stacked along a new
      first axis. None if the step fits no shape.
    """
    lengths = (
        np.array([len(one.inputs) for one in sequences]),
        np.array([len(one.targets) for one in sequences]),
    )
    dealt = deal(*lengths, parts)
    for shape in shapes:
        if all(shape.fits(*(side[part] for side in lengths)) for part in dealt):
            batches = [flat.lay_out([sequences[i] for i in part.tolist()], shape) for part in dealt]
            if parts == 1:
                return batches[0]
            return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    return None
