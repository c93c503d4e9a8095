"""The same dropout factors for the packed and the flat layout of the same sequences.

`draw_factors` draws factors of each sequence, which have no layout. `packed_factors` and
`flat_factors` lay them out as `distill.student.dropout.dropout_factors` would return them, and
`injected` puts them in its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest

from distill.config.student import T5Config
from distill.student import flat_network, network
from distill.student.dropout import SEGMENT_SLOTS

# By stack and place: of an encoder's layer, of a decoder's layer; [S, ...] for S sequences.
Factors = dict[str, dict[str, np.ndarray]]
ENCODER_LAYER = ("weights", "attention", "hidden", "mlp")
DECODER_LAYER = ("own_weights", "own_attention", *ENCODER_LAYER)


def draw_factors(config: T5Config, sequences: list, seed: int) -> Factors:
    """Factors 0 and 1 / (1 - rate); with a layer axis first for the places of layers."""
    rng = np.random.default_rng(seed)
    count, rate = len(sequences), config.dropout_rate
    inputs = max(len(one.inputs) for one in sequences)
    targets = max(len(one.targets) for one in sequences)

    def draw(*shape: int) -> np.ndarray:
        return (rng.random(shape) > rate) / (1 - rate)

    def layers(number: int) -> dict[str, np.ndarray]:
        width = number, count, config.embed_dim
        return {
            "weights": draw(number, count, config.num_heads, inputs),
            "attention": draw(*width),
            "hidden": draw(number, count, config.mlp_dim),
            "mlp": draw(*width),
            "own_weights": draw(number, count, config.num_heads, targets),
            "own_attention": draw(*width),
        }

    width = count, config.embed_dim
    return {
        "encoder": {
            "first": draw(*width),
            **layers(config.num_encoder_layers),
            "last": draw(count, inputs, config.embed_dim),
        },
        "decoder": {
            "first": draw(*width),
            **layers(config.num_decoder_layers),
            "last": draw(*width),
        },
    }


def packed_factors(
    drawn: dict[str, np.ndarray],
    names: tuple[str, ...],
    rows: list[list[int]],
    lengths: dict[str, int],
    sequences: list,
) -> list[list[np.ndarray]]:
    """Of a stack whose batch is `packing.pack(sequences, rows, len(rows), ...)`.

    Args:
      drawn: of the stack.
      names: places of its layers.
      rows: sequences of each row.
      lengths: tokens of a row, by "inputs" and "targets".
      sequences: of the step.
    """

    def hidden(of_SxD: np.ndarray) -> np.ndarray:
        out = np.ones((len(rows), SEGMENT_SLOTS, of_SxD.shape[-1]))
        for row, indices in enumerate(rows):
            assert len(indices) < SEGMENT_SLOTS  # none shares with another one
            for segment, index in enumerate(indices, start=1):
                out[row, segment % SEGMENT_SLOTS] = of_SxD[index]
        return out.reshape(len(rows), -1)

    def by_position(of_SxLx: np.ndarray, side: str) -> np.ndarray:
        """[rows, length, ...] of factors [S, L, ...]."""
        out = np.ones((len(rows), lengths[side], *of_SxLx.shape[2:]))
        for row, indices in enumerate(rows):
            start = 0
            for index in indices:
                count = len(getattr(sequences[index], side))
                out[row, start : start + count] = of_SxLx[index, :count]
                start += count
        return out

    def of_layer(name: str, values: np.ndarray) -> np.ndarray:
        if not name.endswith("weights"):
            return hidden(values)
        side = "targets" if name.startswith("own") else "inputs"
        of_BxLxH = by_position(values.swapaxes(1, 2), side)
        return of_BxLxH.swapaxes(1, 2).reshape(len(rows), -1)

    count = len(drawn["mlp"])
    layers = [of_layer(name, drawn[name][layer]) for layer in range(count) for name in names]
    last = drawn["last"]
    last = by_position(last, "inputs").reshape(len(rows), -1) if last.ndim == 3 else hidden(last)
    return [[hidden(drawn["first"])], [np.concatenate(layers, axis=1)], [last]]


def flat_factors(
    drawn: dict[str, np.ndarray],
    names: tuple[str, ...],
    order: np.ndarray,
    batch: dict[str, np.ndarray],
    maps: dict[str, str],
    sequences: list,
) -> list[list[np.ndarray]]:
    """Of a stack whose batch is `flat.lay_out` of the sequences, which all stand in `order`.

    Args:
      drawn: of the stack.
      names: places of its layers.
      order: sequence at each place of the classes.
      batch: the flat batch.
      maps: name of the map whose keys attention weights drop, by place.
      sequences: of the step.
    """

    def of_layer(name: str, values: np.ndarray) -> np.ndarray:
        if name not in maps:
            return values[order].reshape(-1)
        parts, start = [], 0
        for number in range(2):
            count, length = batch[f"{maps[name]}_slots_{number}"].shape
            own = values[order[start : start + count]]
            padding = max(0, length - own.shape[-1])
            parts.append(np.pad(own, ((0, 0), (0, 0), (0, padding)))[..., :length].reshape(-1))
            start += count
        return np.concatenate(parts)

    count, last = len(drawn["mlp"]), drawn["last"]
    layers = [of_layer(name, drawn[name][layer]) for layer in range(count) for name in names]
    if last.ndim == 3:
        tokens = [last[index, : len(sequences[index].inputs)] for index in order]
        padding = len(batch["encoder_tokens"]) - sum(map(len, tokens))
        last = np.concatenate([*tokens, np.ones((padding, last.shape[2]))])
    else:
        last = last[order]
    whole = drawn["first"][order].reshape(-1), np.concatenate(layers), last.reshape(-1)
    return [[part[None]] for part in whole]


@contextlib.contextmanager
def injected(packed: dict[str, list], flat: dict[str, list]) -> Iterator[None]:
    """Both networks take these factors, by stack, instead of drawing some."""

    def patch(module: object, by_stack: dict[str, list]) -> None:
        def given(stack: object, deterministic: bool, rows: int, widths: list) -> list:
            found = by_stack["encoder" if "Encoder" in type(stack).__name__ else "decoder"]
            for (factors,), (width,) in zip(found, widths, strict=True):
                assert factors.shape == (rows, width), (factors.shape, rows, width)
            return [[jnp.asarray(factors)] for (factors,) in found]

        patches.setattr(module, "dropout_factors", given)

    with pytest.MonkeyPatch.context() as patches:
        patch(network, packed)
        patch(flat_network, flat)
        yield
