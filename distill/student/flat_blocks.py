"""The layers of the flat student: products on flat tokens, attention on classes of sequences.

Parameters are those of `distill.student.blocks`, by the same names; only the layout of activations
differs. A flat array is one row of all tokens, [1, N, D], so that the parts of
`distill.student.layers` take it as it is.
Shape letters: N encoder tokens, M decoder tokens, Q sequences of a step, S sequences of a class,
I and T the length of a class of the encoder's and the decoder's, H heads, D embed, F dropout
factors of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.attend import attend
from distill.student.class_maps import ClassMap
from distill.student.dropout import by_place, drop
from distill.student.layers import (
    Attention,
    FeedForward,
    RMSNorm,
    residual_stream,
)
from distill.student.softmax_attend import softmax_attend


class Scores(NamedTuple):
    """What an attention adds to its logits and hides of them, by class.

    Attributes:
      queries, keys: where they stand in the classes.
      masks: bool, broadcastable to [S, H, T, I].
      biases: float32, broadcastable to [S, H, T, I], or None each.
    """

    queries: ClassMap
    keys: ClassMap
    masks: list[jax.Array]
    biases: list[jax.Array | None]

    @property
    def sequences(self) -> int:
        """Sequences of a step, Q, whose number is that of all classes together."""
        return sum(len(is_token_SxI) for is_token_SxI in self.keys.is_token)

    def shapes(self, num_heads: int) -> list[tuple[int, ...]]:
        """Of each class, the dropout factors of attention weights [S, H, 1, I]."""
        return [(*key.shape[:1], num_heads, 1, key.shape[1]) for key in self.keys.is_token]


def by_sequence(factors_1xF: jax.Array | None, width: int, of_N: jax.Array) -> jax.Array | None:
    """Dropout factors of a hidden place, which all tokens of a sequence share.

    Args:
      factors_1xF: F = Q * width, or None without dropout.
      width: of the place.
      of_N: the sequence of each token.

    Returns:
      [1, N, width], or None.
    """
    return None if factors_1xF is None else factors_1xF.reshape(-1, width)[of_N][None]


class FlatAttention(Attention):
    """Attention whose projections see flat tokens and whose products see classes."""

    def by_class(
        self,
        x_1xMxD: jax.Array,
        source_1xNxD: jax.Array,
        scores: Scores,
        factors: Sequence[jax.Array | None],
    ) -> jax.Array:
        """Attends from x to the tokens of its own sequence in `source`, which may be x.

        Args:
          x_1xMxD: where the queries come from.
          source_1xNxD: where keys and values come from.
          scores: of this attention.
          factors: of each class, dropout factors of the weights [1, S * H * I], or None.

        Returns:
          [1, M, D]; of tokens that are padding, `out` of zeros.
        """
        heads = self.config.num_heads
        queries = scores.queries.spread(self.query(x_1xMxD)[0], heads)
        keys = scores.keys.spread(self.key(source_1xNxD)[0], heads)
        values = scores.keys.spread(self.value(source_1xNxD)[0], heads)
        shapes = scores.shapes(heads)
        mixed = []
        for number, bias in enumerate(scores.biases):
            of_class = factors[number]
            of_class = None if of_class is None else of_class.reshape(shapes[number])
            if self.config.narrow_scores:
                heads_last = (
                    jnp.swapaxes(every[number], 1, 2) for every in (queries, keys, values)
                )
                of_tokens = attend(*heads_last, scores.masks[number], bias, of_class)
                mixed.append(jnp.swapaxes(of_tokens, 1, 2))
                continue
            mixed.append(
                softmax_attend(
                    queries[number],
                    keys[number],
                    values[number],
                    scores.masks[number],
                    bias,
                    of_class,
                )
            )
        out: jax.Array = self.out(scores.queries.collect(mixed)[None])
        return out


def encoder_widths(config: T5Config, scores: Scores) -> list[int]:
    """Dropout factors of a layer: of attention weights by class, attention, hidden units, mlp."""
    of_weights = [math.prod(shape) for shape in scores.shapes(config.num_heads)]
    width = scores.sequences * config.embed_dim
    return [*of_weights, width, scores.sequences * config.mlp_dim, width]


def decoder_widths(config: T5Config, own: Scores, cross: Scores) -> list[int]:
    """Dropout factors of a layer: those of self-attention, then those of an encoder's layer."""
    return encoder_widths(config, own)[:-2] + encoder_widths(config, cross)


class FlatEncoderLayer(nn.Module):
    """`blocks.EncoderLayer` on flat tokens."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x_1xNxD: jax.Array, factors_1xF: jax.Array | None, scores: Scores, of_N: jax.Array
    ) -> tuple[jax.Array, None]:
        """Maps the residual stream [1, N, D] to the next layer's."""
        config = self.config
        *of_weights, of_attention, of_hidden, of_mlp = by_place(
            factors_1xF, encoder_widths(config, scores)
        )
        y_1xNxD = RMSNorm(config.dtype, name="pre_attention_layer_norm")(x_1xNxD)
        attention = FlatAttention(config, name="attention")
        attended = attention.by_class(y_1xNxD, y_1xNxD, scores, of_weights)
        x_1xNxD += drop(attended, by_sequence(of_attention, config.embed_dim, of_N))
        y_1xNxD = RMSNorm(config.dtype, name="pre_mlp_layer_norm")(x_1xNxD)
        hidden = FeedForward(config, name="mlp")(
            y_1xNxD, by_sequence(of_hidden, config.mlp_dim, of_N)
        )
        x_1xNxD += drop(hidden, by_sequence(of_mlp, config.embed_dim, of_N))
        return residual_stream(x_1xNxD), None


class FlatDecoderLayer(nn.Module):
    """`blocks.DecoderLayer` on flat tokens."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x_1xMxD: jax.Array,
        factors_1xF: jax.Array | None,
        encoded_1xNxD: jax.Array,
        own: Scores,
        cross: Scores,
        of_M: jax.Array,
    ) -> tuple[jax.Array, None]:
        """Maps the residual stream [1, M, D] to the next layer's."""
        config, width = self.config, self.config.embed_dim
        places = by_place(factors_1xF, decoder_widths(config, own, cross))
        classes = len(own.biases)
        of_own, of_attended, places = places[:classes], places[classes], places[classes + 1 :]
        *of_cross, of_crossed, of_hidden, of_mlp = places
        y_1xMxD = RMSNorm(config.dtype, name="pre_self_attention_layer_norm")(x_1xMxD)
        attended = FlatAttention(config, name="self_attention").by_class(
            y_1xMxD, y_1xMxD, own, of_own
        )
        x_1xMxD += drop(attended, by_sequence(of_attended, width, of_M))
        y_1xMxD = RMSNorm(config.dtype, name="pre_cross_attention_layer_norm")(x_1xMxD)
        attended = FlatAttention(config, name="encoder_decoder_attention").by_class(
            y_1xMxD, encoded_1xNxD, cross, of_cross
        )
        x_1xMxD += drop(attended, by_sequence(of_crossed, width, of_M))
        y_1xMxD = RMSNorm(config.dtype, name="pre_mlp_layer_norm")(x_1xMxD)
        hidden = FeedForward(config, name="mlp")(
            y_1xMxD, by_sequence(of_hidden, config.mlp_dim, of_M)
        )
        x_1xMxD += drop(hidden, by_sequence(of_mlp, width, of_M))
        return residual_stream(x_1xMxD), None
