"""The layers of encoder and decoder, and how a stack of them runs: one by one, or as a scan.

A layer's methods take (x, own, *shared) and return (x, result): x goes from layer to layer, `own`
and the result are the layer's, `shared` is the same for all. That is the form of a scan.
Shape letters: B rows, I encoder length, T target length, D embed, H heads, K head dim, L layers,
N dropout factors of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.attend import STORED, Bias
from distill.student.attended import HeadsFirst, KeysValues, RealTokens, States
from distill.student.dropout import (
    SEGMENT_SLOTS,
    by_key,
    by_place,
    by_segment,
    drop,
)
from distill.student.layers import (
    Attention,
    FeedForward,
    RMSNorm,
    residual_stream,
)

LAYERS_AXIS = 1  # of stacked parameters, as in t5x/examples/scalable_t5/network.py
# What the backward pass finds stored: nothing, or the results of products with parameters, which
# have no batch axes of their own (T5X's policy of that name), and what `attend` names
REMAT_POLICIES = {
    "full": None,
    "minimal": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(*STORED),
    ),
}
Factors = Sequence[jax.Array | None]  # of the places that `decoder_places` and the like list


def encoder_places(config: T5Config, inputs: int) -> list[int]:
    """Dropout factors of a row: of attention weights, attention, hidden units, feed-forward."""
    width = SEGMENT_SLOTS * config.embed_dim
    return [config.num_heads * inputs, width, SEGMENT_SLOTS * config.mlp_dim, width]


def decoder_places(config: T5Config, targets: int, inputs: int) -> list[int]:
    """Dropout factors of a row: those of self-attention, then those of an encoder's layer."""
    return [
        config.num_heads * targets,
        SEGMENT_SLOTS * config.embed_dim,
        *encoder_places(config, inputs),
    ]


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x_BxIxD: jax.Array,
        factors_BxN: jax.Array | None,
        segments_BxI: jax.Array,
        mask: jax.Array,
        bias: Bias,
    ) -> tuple[jax.Array, None]:
        """Maps the residual stream [B, I, D] to the next layer's."""
        config = self.config
        of_weights, *others = by_place(factors_BxN, encoder_places(config, x_BxIxD.shape[1]))
        of_attention, of_hidden, of_mlp = (
            by_segment(place, segments_BxI, config.dtype) for place in others
        )
        y_BxIxD = RMSNorm(config.dtype, name="pre_attention_layer_norm")(x_BxIxD)
        attention = Attention(config, name="attention")
        keys_values = attention.keys_values(y_BxIxD)
        of_weights = by_key(of_weights, config.num_heads)
        x_BxIxD += drop(attention(y_BxIxD, keys_values, mask, bias, of_weights), of_attention)
        y_BxIxD = RMSNorm(config.dtype, name="pre_mlp_layer_norm")(x_BxIxD)
        x_BxIxD += drop(FeedForward(config, name="mlp")(y_BxIxD, of_hidden), of_mlp)
        return residual_stream(x_BxIxD), None


class DecoderLayer(nn.Module):
    """Pre-norm self-attention, attention to the encoder, feed-forward."""

    config: T5Config

    def setup(self) -> None:
        config = self.config
        self.pre_self_attention_layer_norm = RMSNorm(config.dtype)
        self.self_attention = Attention(config)
        self.pre_cross_attention_layer_norm = RMSNorm(config.dtype)
        self.encoder_decoder_attention = Attention(config)
        self.pre_mlp_layer_norm = RMSNorm(config.dtype)
        self.mlp = FeedForward(config)

    def encoder_keys_values(
        self, x: None, layer_inputs: None, encoded_BxIxD: jax.Array
    ) -> tuple[None, KeysValues | HeadsFirst]:
        """What this layer's cross-attention reads in decoding (see `Attention.stored`)."""
        return None, self.encoder_decoder_attention.stored(encoded_BxIxD)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        layer_inputs: tuple[KeysValues | HeadsFirst | States | None, jax.Array | None],
        encoded_BxIxD: jax.Array | None,
        segments_BxT: jax.Array,
        self_mask: jax.Array,
        cross_mask: jax.Array,
        bias: Bias,
        real: RealTokens | None,
    ) -> tuple[jax.Array, None]:
        """All target positions at once: the residual stream [B, T, D] of the next layer.

        `own` has what the cross-attention reads, which is made of the encoder's states if it
        is None, and the dropout factors [B, N]. With `real`, the residual stream is [1, M, D].
        """
        keys_values, factors_BxN = layer_inputs
        heads, inputs = self.config.num_heads, cross_mask.shape[-1]
        places = by_place(factors_BxN, decoder_places(self.config, x_BxTxD.shape[1], inputs))
        of_self, of_attention, of_cross, *others = places
        y_BxTxD = self.pre_self_attention_layer_norm(x_BxTxD)
        self_keys_values = self.self_attention.keys_values(y_BxTxD, real)
        of_self = by_key(of_self, heads)
        attended = self.self_attention(y_BxTxD, self_keys_values, self_mask, bias, of_self, real)
        x_BxTxD += drop(attended, by_segment(of_attention, segments_BxT, self.config.dtype))
        if keys_values is None:
            assert encoded_BxIxD is not None  # one of the two is given
            keys_values = self.encoder_decoder_attention.keys_values(encoded_BxIxD)
        spread = (by_segment(one, segments_BxT, self.config.dtype) for one in others)
        others = [by_key(of_cross, heads), *spread]
        x_BxTxD = self._after_self_attention(x_BxTxD, keys_values, cross_mask, others, real)
        return x_BxTxD, None

    def step(
        self,
        x_Bx1xD: jax.Array,
        layer_inputs: tuple[KeysValues, KeysValues | HeadsFirst | States],
        position: jax.Array,
        cross_mask: jax.Array,
        bias_1xHx1xT: jax.Array,
    ) -> tuple[jax.Array, KeysValues]:
        """One target position: its residual stream, and the cache with its keys and values.

        `own` is the cache, and what the cross-attention reads.
        """
        cache, encoder_keys_values = layer_inputs
        y_Bx1xD = self.pre_self_attention_layer_norm(x_Bx1xD)
        new = self.self_attention.keys_values(y_Bx1xD)
        write = jax.lax.dynamic_update_slice_in_dim
        cache = KeysValues(*(write(*pair, position, 1) for pair in zip(cache, new, strict=True)))
        visible = jnp.arange(cache.keys.shape[1]) <= position
        x_Bx1xD += self.self_attention(y_Bx1xD, cache, visible, bias_1xHx1xT, None)
        return self._after_self_attention(x_Bx1xD, encoder_keys_values, cross_mask), cache

    def _after_self_attention(
        self,
        x_BxTxD: jax.Array,
        encoder_keys_values: KeysValues | HeadsFirst | States,
        cross_mask: jax.Array,
        factors: Factors = (None,) * 4,
        real: RealTokens | None = None,
    ) -> jax.Array:
        of_weights, of_attention, of_hidden, of_mlp = factors
        y_BxTxD = self.pre_cross_attention_layer_norm(x_BxTxD)
        attended = self.encoder_decoder_attention(
            y_BxTxD, encoder_keys_values, cross_mask, None, of_weights, real
        )
        x_BxTxD += drop(attended, of_attention)
        x_BxTxD += drop(self.mlp(self.pre_mlp_layer_norm(x_BxTxD), of_hidden), of_mlp)
        return residual_stream(x_BxTxD)


def layer_class(layer: type[nn.Module], config: T5Config) -> type[nn.Module]:
    """The layer's class, whose backward pass keeps as much as macro REMAT says.

    Names and values stay the same.
    """
    if config.remat == "none":
        return layer
    # A scan's body is compiled by itself, so nothing outside can be merged with it.
    policy = REMAT_POLICIES[config.remat]
    return nn.remat(layer, policy=policy, prevent_cse=not config.scan_layers)


def scanned(layer: type[nn.Module], count: int, shared: dict[str, int]) -> type[nn.Module]:
    """A class that is `count` layers: each method runs them all, one compiled body for all.

    Parameters are stacked along axis LAYERS_AXIS, logical axis "layers"; what layers own and
    return is stacked along axis 0.

    Args:
      layer: the class of one.
      count: L.
      shared: for each method, how many arguments are the same for all layers.
    """
    settings = {
        method: {
            "variable_axes": {"params": LAYERS_AXIS},
            "split_rngs": {"params": True},
            "in_axes": (0, *[nn.broadcast] * number),
            "length": count,
            "metadata_params": {nn.PARTITION_NAME: "layers"},
        }
        for method, number in shared.items()
    }
    return nn.scan(layer, methods=settings)
