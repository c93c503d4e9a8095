"""The flat layout: all tokens of a step end to end, and where each stands in padded classes.

Products with parameters, norms, dropout and the loss cost as much as there are tokens; they read
flat arrays, which are padded at their end alone. Attention is computed on classes of sequences of
about one length, [S, L] each. Index arrays say which flat token stands at each slot of the
classes, and at which slot each flat token stands, so that the backward pass of either gather is
a gather too (`distill.student.class_maps`).

A program is compiled for fixed sizes, a `FlatShape`. `choose_shapes` chooses one or two from the
lengths of some steps, and every step takes the first that it fits:

  usual   nearly all of those steps fit (each size is a 95% quantile)
  large   all of them fit, with half as much again to spare from the mean to the maximum

The usual shape is left out where it saves less than a twentieth of the large one's tokens. A step
that fits neither, which hardly any run has, is packed into rows (`packing`). The choice depends on
the data, the seed and BATCH_SIZE alone, and what a step takes on its sequences: a resumed run
computes each step with the same program.
Shape letters: N encoder tokens, M decoder tokens, S sequences of a class, L their length, P steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from distill.data.batching.packing import TrainSequence

TOKEN_MULTIPLE, LENGTH_MULTIPLE = 32, 8
_USUAL = 0.95  # quantile of each size
_MARGIN = 1.5  # of a large size's distance from the mean, to that of the maximum
_MOVED = 64  # a slot's cost apart from the products, in the cost of one of them
_SAVES = 0.95  # share of the large shape's tokens that the usual one has at most

Classes = tuple[tuple[int, int], ...]  # (sequences, length) of each, longest first
Steps = Sequence[tuple[np.ndarray, np.ndarray]]
Size = Callable[[np.ndarray], np.ndarray]  # samples [P, K] -> the sizes [K] that are provided for


@dataclasses.dataclass(frozen=True)
class FlatShape:
    """The sizes of a compiled step.

    Attributes:
      encoder_tokens, decoder_tokens: N and M, padding included.
      encoder_classes, decoder_classes: of the two stacks' self-attention.
    """

    encoder_tokens: int
    decoder_tokens: int
    encoder_classes: Classes
    decoder_classes: Classes

    def fits(self, inputs: np.ndarray, targets: np.ndarray) -> bool:
        """Whether a step fits that has sequences with these lengths of inputs and targets."""
        return _fits(inputs, self.encoder_tokens, self.encoder_classes) and _fits(
            targets, self.decoder_tokens, self.decoder_classes
        )


def choose_shapes(steps: Steps, most: int, parts: int = 1) -> tuple[FlatShape, ...]:
    """The shapes of a run, smallest first.

    Args:
      steps: lengths of inputs and of targets of the sequences of some steps; with parts, those of
        each part, one after the other (`flat_parts.deal_steps`).
      most: sequences that a step, or a part, has at most.
      parts: of a step; a shape is chosen for the largest of them.
    """
    sides = [_descending([step[side] for step in steps], most) for side in (0, 1)]
    usual, large = (_shape(sides, parts, size) for size in (_usual, _large))
    saves = _tokens(usual) <= _SAVES * _tokens(large)
    return (usual, large) if saves else (large,)


def lay_out(sequences: Sequence[TrainSequence], shape: FlatShape) -> dict[str, np.ndarray]:
    """The flat batch of a step whose sequences fit `shape`.

    Encoder tokens are in the order of input lengths, decoder tokens in the order of target
    lengths, longest first, so that a class is a run of sequences.

    Returns:
      encoder_tokens and encoder_sequence (number of each token's sequence) [N];
      decoder_input_tokens, decoder_target_tokens, decoder_sequence, decoder_task_ids and
      decoder_loss_weights (0 on padding) [M]; for each map `encoder`, `decoder` and `cross` (keys
      of the decoder's sequences, all of the longest encoder class's length) `<map>_slots_<class>`
      [S, L], the flat token at each slot, and `<map>_places` [N] or [M], the slot of each flat
      token among the slots of all classes. Padding points past the end.
    """
    encoder = _order([len(one.inputs) for one in sequences])
    decoder = _order([len(one.targets) for one in sequences])
    by_inputs, by_targets = ([sequences[i] for i in order] for order in (encoder, decoder))
    inputs, targets = (
        np.array([len(one.inputs) for one in by_inputs]),
        np.array([len(one.targets) for one in by_targets]),
    )
    sizes = shape.encoder_tokens, shape.decoder_tokens
    tasks = [np.broadcast_to(one.task, len(one.targets)) for one in by_targets]
    weights = [np.broadcast_to(one.weight, len(one.targets)) for one in by_targets]
    shifted = [token for one in by_targets for token in (np.zeros(1, np.int32), one.targets[:-1])]
    batch = {
        "encoder_tokens": _flat([one.inputs for one in by_inputs], sizes[0]),
        "encoder_sequence": _flat([np.repeat(np.arange(len(inputs)), inputs)], sizes[0]),
        "decoder_input_tokens": _flat(shifted, sizes[1]),
        "decoder_target_tokens": _flat([one.targets for one in by_targets], sizes[1]),
        "decoder_sequence": _flat([np.repeat(np.arange(len(targets)), targets)], sizes[1]),
        "decoder_task_ids": _flat(tasks, sizes[1]),
        "decoder_loss_weights": _flat(weights, sizes[1], np.float32),
    }
    starts = np.cumsum(inputs) - inputs
    batch |= _map("encoder", starts, inputs, shape.encoder_classes, sizes[0])
    batch |= _map("decoder", np.cumsum(targets) - targets, targets, shape.decoder_classes, sizes[1])
    # Where the inputs of the decoder's sequences stand, in the decoder's order.
    ranks = np.argsort(encoder)[decoder]
    longest = shape.encoder_classes[0][1]
    classes = tuple((count, longest) for count, _ in shape.decoder_classes)
    return batch | _map("cross", starts[ranks], inputs[ranks], classes, sizes[0])


def _shape(sides: Sequence[np.ndarray], parts: int, size: Size) -> FlatShape:
    tokens, classes = [], []
    for lengths_RxS in sides:  # R = P * parts
        largest_Px1 = lengths_RxS.sum(axis=1).reshape(-1, parts).max(axis=1, keepdims=True)
        total = size(largest_Px1)[0]
        tokens.append(_round_up(float(total), TOKEN_MULTIPLE))
        lengths_PxS = lengths_RxS.reshape(-1, parts, lengths_RxS.shape[1]).max(axis=1)
        # The j-th longest sequence of a step or part has at most this many tokens.
        bounds_S = np.minimum(size(lengths_PxS), lengths_PxS.max())
        classes.append(_classes([_round_up(float(bound), LENGTH_MULTIPLE) for bound in bounds_S]))
    return FlatShape(tokens[0], tokens[1], classes[0], classes[1])


def _classes(bounds: Sequence[int]) -> Classes:
    """Two classes, or one, of sequences with these bounds: what costs least.

    A class costs its slots times what each slot does: it is moved, and meets the class's length.
    """

    def cost(classes: Classes) -> int:
        return sum(count * length * (length + _MOVED) for count, length in classes)

    every = [((len(bounds), bounds[0]),)] + [
        ((cut, bounds[0]), (len(bounds) - cut, bounds[cut])) for cut in range(1, len(bounds))
    ]
    return min(every, key=cost)


def _fits(lengths: np.ndarray, tokens: int, classes: Classes) -> bool:
    ordered = np.sort(lengths)[::-1]
    firsts = np.cumsum([0, *(count for count, _ in classes)])
    if ordered.sum() > tokens or len(ordered) > firsts[-1]:
        return False
    return all(
        ordered[first] <= length
        for first, (_, length) in zip(firsts, classes, strict=False)
        if first < len(ordered)
    )


def _map(
    name: str, starts: np.ndarray, lengths: np.ndarray, classes: Classes, tokens: int
) -> dict[str, np.ndarray]:
    """The index arrays of sequences that stand at `starts` of `tokens` flat tokens."""
    arrays = {}
    places = np.full(tokens, sum(count * length for count, length in classes), np.int32)
    first = base = 0
    for number, (count, length) in enumerate(classes):
        own = slice(first, first + count)
        positions_L = np.arange(length)
        is_token = np.zeros((count, length), bool)
        slots = np.full((count, length), tokens, np.int32)
        some = len(lengths[own])
        is_token[:some] = positions_L < lengths[own, None]
        slots[:some] = starts[own, None] + positions_L
        slots[~is_token] = tokens
        places[slots[is_token]] = base + np.flatnonzero(is_token)
        arrays[f"{name}_slots_{number}"] = slots
        first, base = first + count, base + count * length
    return arrays | {f"{name}_places": places}


def _flat(
    arrays: Sequence[np.ndarray], size: int, dtype: type[np.generic] = np.int32
) -> np.ndarray:
    """The arrays end to end, then zeros up to `size`."""
    joined = np.concatenate(arrays)
    return np.concatenate([joined, np.zeros(size - len(joined))]).astype(dtype)


def _order(lengths: Sequence[int]) -> np.ndarray:
    """Indices of the sequences, longest first."""
    return np.argsort(-np.asarray(lengths), kind="stable")


def _descending(lengths: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Lengths of each step [P, S], longest first, 0 where a step has fewer sequences."""
    rows = [np.sort(step)[::-1] for step in lengths]
    return np.stack([np.pad(row, (0, most - len(row))) for row in rows])


def _tokens(shape: FlatShape) -> int:
    return shape.encoder_tokens + shape.decoder_tokens


def _round_up(size: float, multiple: int) -> int:
    return max(1, math.ceil(size / multiple)) * multiple


def _usual(samples_PxK: np.ndarray) -> np.ndarray:
    sizes_K: np.ndarray = np.quantile(samples_PxK, _USUAL, axis=0)
    return sizes_K


def _large(samples_PxK: np.ndarray) -> np.ndarray:
    mean_K = samples_PxK.mean(axis=0)
    sizes_K: np.ndarray = mean_K + _MARGIN * (samples_PxK.max(axis=0) - mean_K)
    return sizes_K
