"""The student on flat batches: the function and the parameters of `distill.student.network`.

Only training uses it, and only on one device; inference and meshes use padded or packed rows.
Shape letters as in `distill.student.flat_blocks`; V vocabulary, K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.blocks import layer_class, scanned
from distill.student.class_maps import class_map
from distill.student.dropout import by_layer, drop, dropout_factors
from distill.student.flat_blocks import (
    FlatDecoderLayer,
    FlatEncoderLayer,
    Scores,
    by_sequence,
    decoder_widths,
    encoder_widths,
)
from distill.student.layers import (
    Embedding,
    RMSNorm,
    causal_mask,
    residual_stream,
)
from distill.student.relative_bias import RelativeBias

Batch = Mapping[str, jax.Array]


def _biases(bias: RelativeBias, lengths: list[int]) -> list[jax.Array | None]:
    """The relative bias of classes of these lengths, [1, H, L, L] each, from one table."""
    longest = max(lengths)
    whole_1xHxLxL = bias(longest, longest)
    return [whole_1xHxLxL[:, :, :length, :length] for length in lengths]


class FlatEncoder(nn.Module):
    """`network.Encoder` on flat tokens."""

    config: T5Config

    @nn.compact
    def __call__(self, x_1xNxD: jax.Array, batch: Batch, deterministic: bool) -> jax.Array:
        """Maps embedded tokens [1, N, D] to encoder states [1, N, D]."""
        config, count = self.config, self.config.num_encoder_layers
        classes = class_map(batch, "encoder", config.num_heads)
        lengths = [is_token_SxI.shape[1] for is_token_SxI in classes.is_token]
        biases = _biases(RelativeBias(config, bidirectional=True, name="relpos_bias"), lengths)
        masks = [is_token_SxI[:, None, None] for is_token_SxI in classes.is_token]
        scores, of_N = Scores(classes, classes, masks, biases), batch["encoder_sequence"]
        layer = sum(encoder_widths(config, scores))
        places = [[scores.sequences * config.embed_dim], [count * layer], [x_1xNxD.size]]
        (first,), (of_layers,), (last,) = dropout_factors(self, deterministic, 1, places)
        of_layers = by_layer(of_layers, count)
        x_1xNxD = residual_stream(drop(x_1xNxD, by_sequence(first, config.embed_dim, of_N)))
        layer_cls = layer_class(FlatEncoderLayer, config)
        if config.scan_layers:
            every = scanned(layer_cls, count, {"__call__": 2})
            x_1xNxD, _ = every(config, name="encoder")(x_1xNxD, of_layers, scores, of_N)
        else:
            for i in range(count):
                own = None if of_layers is None else of_layers[i]
                x_1xNxD, _ = layer_cls(config, name=f"layers_{i}")(x_1xNxD, own, scores, of_N)
        x_1xNxD = RMSNorm(config.dtype, name="encoder_norm")(x_1xNxD)
        return drop(x_1xNxD, None if last is None else last.reshape(x_1xNxD.shape))


class FlatDecoder(nn.Module):
    """`network.Decoder` on flat tokens, up to what the output layer multiplies."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x_1xMxD: jax.Array, encoded_1xNxD: jax.Array, batch: Batch, deterministic: bool
    ) -> jax.Array:
        """Maps embedded tokens [1, M, D] and encoder states [1, N, D] to normed states [M, D]."""
        config, count = self.config, self.config.num_decoder_layers
        classes, inputs = (
            class_map(batch, name, config.num_heads) for name in ("decoder", "cross")
        )
        lengths = [is_token_SxT.shape[1] for is_token_SxT in classes.is_token]
        biases = _biases(RelativeBias(config, bidirectional=False, name="relpos_bias"), lengths)
        # Padding stands after the tokens, so no token sees it.
        own = Scores(classes, classes, [causal_mask(length) for length in lengths], biases)
        masks = [is_token_SxI[:, None, None] for is_token_SxI in inputs.is_token]
        cross = Scores(classes, inputs, masks, [None] * len(masks))
        of_M, width = batch["decoder_sequence"], own.sequences * config.embed_dim
        places = [[width], [count * sum(decoder_widths(config, own, cross))], [width]]
        (first,), (of_layers,), (last,) = dropout_factors(self, deterministic, 1, places)
        of_layers = by_layer(of_layers, count)
        x_1xMxD = residual_stream(drop(x_1xMxD, by_sequence(first, config.embed_dim, of_M)))
        shared = encoded_1xNxD, own, cross, of_M
        layer_cls = layer_class(FlatDecoderLayer, config)
        if config.scan_layers:
            every = scanned(layer_cls, count, {"__call__": len(shared)})
            x_1xMxD, _ = every(config, name="decoder")(x_1xMxD, of_layers, *shared)
        else:
            for i in range(count):
                factors = None if of_layers is None else of_layers[i]
                x_1xMxD, _ = layer_cls(config, name=f"layers_{i}")(x_1xMxD, factors, *shared)
        x_1xMxD = RMSNorm(config.dtype, name="decoder_norm")(x_1xMxD)
        return drop(x_1xMxD, by_sequence(last, config.embed_dim, of_M))[0]


class FlatT5(nn.Module):
    """`network.T5` on flat batches, to be applied with its parameters and rngs={"dropout": key}."""

    config: T5Config

    def setup(self) -> None:
        self.token_embedder = Embedding(self.config)
        self.encoder = FlatEncoder(self.config)
        self.decoder = FlatDecoder(self.config)

    def __call__(self, batch: Batch, *, deterministic: bool) -> jax.Array:
        """What the output layer multiplies, [M, D], of a batch of `flat.lay_out`.

        Args:
          batch: flat tokens and their maps.
          deterministic: no dropout; otherwise an rng named "dropout" is needed.
        """
        # One lookup: its gradient is an array of the embedding's size for each.
        count = len(batch["encoder_tokens"])
        tokens = jnp.concatenate([batch["encoder_tokens"], batch["decoder_input_tokens"]])
        embedded_1xLxD = self.token_embedder(tokens)[None]
        encoded_1xNxD = self.encoder(embedded_1xLxD[:, :count], batch, deterministic)
        states_MxD: jax.Array = self.decoder(
            embedded_1xLxD[:, count:], encoded_1xNxD, batch, deterministic
        )
        return states_MxD
