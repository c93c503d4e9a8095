"""The student: a T5 v1.1 encoder-decoder with T5X's parameter tree.

Follows t5x/examples/t5/network.py in what it computes (packing included), not in
how: masks come from one segment id per token, the relative bias is made once per
stack, and decoding passes its cache explicitly instead of keeping it in variables.
Shape letters: B rows, I encoder length, T target length, S keys, D embed, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill.student.config import T5Config
from distill.student.layers import (
    SEGMENT_SLOTS,
    Attention,
    Dense,
    Embedding,
    FeedForward,
    RelativeBias,
    RMSNorm,
    by_key,
    by_segment,
    causal_mask,
    drop,
    dropout_factors,
    residual_stream,
    segment_mask,
    segments,
)

KeysValues = tuple[jax.Array, jax.Array]
Factors = Sequence[jax.Array | None]  # of `dropout_factors`, in the order of their places


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x_BxIxD: jax.Array, mask: jax.Array, bias: jax.Array, factors: Factors
    ) -> jax.Array:
        """Maps the residual stream [B, I, D] to the next layer's."""
        config = self.config
        of_weights, of_attention, of_hidden, of_mlp = factors
        y_BxIxD = RMSNorm(config.dtype, name="pre_attention_layer_norm")(x_BxIxD)
        attention = Attention(config, name="attention")
        keys_values = attention.keys_values(y_BxIxD)
        x_BxIxD += drop(attention(y_BxIxD, keys_values, mask, bias, of_weights), of_attention)
        y_BxIxD = RMSNorm(config.dtype, name="pre_mlp_layer_norm")(x_BxIxD)
        x_BxIxD += drop(FeedForward(config, name="mlp")(y_BxIxD, of_hidden), of_mlp)
        return residual_stream(x_BxIxD)


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

    def encoder_keys_values(self, encoded_BxIxD: jax.Array) -> KeysValues:
        """What this layer's cross-attention reads, [B, I, H, K] each."""
        return self.encoder_decoder_attention.keys_values(encoded_BxIxD)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        encoder_keys_values: KeysValues,
        self_mask: jax.Array,
        cross_mask: jax.Array,
        bias: jax.Array,
        factors: Factors,
    ) -> jax.Array:
        """All target positions at once: the residual stream [B, T, D] of the next layer."""
        of_weights, of_attention, *others = factors
        y_BxTxD = self.pre_self_attention_layer_norm(x_BxTxD)
        keys_values = self.self_attention.keys_values(y_BxTxD)
        attended = self.self_attention(y_BxTxD, keys_values, self_mask, bias, of_weights)
        x_BxTxD += drop(attended, of_attention)
        return self._after_self_attention(x_BxTxD, encoder_keys_values, cross_mask, others)

    def step(
        self,
        x_Bx1xD: jax.Array,
        position: jax.Array,
        cache: KeysValues,
        encoder_keys_values: KeysValues,
        cross_mask: jax.Array,
        bias_1xHx1xT: jax.Array,
    ) -> tuple[jax.Array, KeysValues]:
        """One target position: its residual stream, and the cache with its keys and values."""
        y_Bx1xD = self.pre_self_attention_layer_norm(x_Bx1xD)
        new = self.self_attention.keys_values(y_Bx1xD)
        write = jax.lax.dynamic_update_slice_in_dim
        cache = tuple(write(old, one, position, 1) for old, one in zip(cache, new, strict=True))
        seen = jnp.arange(cache[0].shape[1]) <= position
        x_Bx1xD += self.self_attention(y_Bx1xD, cache, seen, bias_1xHx1xT, None)
        return self._after_self_attention(x_Bx1xD, encoder_keys_values, cross_mask), cache

    def _after_self_attention(
        self,
        x_BxTxD: jax.Array,
        encoder_keys_values: KeysValues,
        cross_mask: jax.Array,
        factors: Factors = (None,) * 4,
    ) -> jax.Array:
        of_weights, of_attention, of_hidden, of_mlp = factors
        y_BxTxD = self.pre_cross_attention_layer_norm(x_BxTxD)
        attended = self.encoder_decoder_attention(
            y_BxTxD, encoder_keys_values, cross_mask, None, of_weights
        )
        x_BxTxD += drop(attended, of_attention)
        x_BxTxD += drop(self.mlp(self.pre_mlp_layer_norm(x_BxTxD), of_hidden), of_mlp)
        return residual_stream(x_BxTxD)


def rematerialised(layer: type[nn.Module], config: T5Config) -> type[nn.Module]:
    """The layer's class, whose backward pass keeps as much as macro REMAT says.

    Names and values stay the same. "minimal" keeps the results of products with
    parameters, which have no batch axes of their own, as T5X's policy of that name does.
    """
    if config.remat == "none":
        return layer
    keep = {"full": None, "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
    return nn.remat(layer, policy=keep[config.remat])


class Encoder(nn.Module):
    """The encoder stack, from embedded tokens to normed states."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x_BxIxD: jax.Array, segments_BxI: jax.Array, deterministic: bool
    ) -> jax.Array:
        """Maps embedded tokens [B, I, D] to encoder states [B, I, D]."""
        config = self.config
        rows, length, width = x_BxIxD.shape
        mask = segment_mask(segments_BxI, segments_BxI)
        bias = RelativeBias(config, bidirectional=True, name="relpos_bias")(length, length)
        hidden = [SEGMENT_SLOTS * width, SEGMENT_SLOTS * config.mlp_dim, SEGMENT_SLOTS * width]
        layer = [config.num_heads * length, *hidden]
        places = [[hidden[0]], *[layer] * config.num_encoder_layers, [length * width]]
        (first,), *layers, (last,) = dropout_factors(self, deterministic, rows, places)
        x_BxIxD = residual_stream(drop(x_BxIxD, by_segment(first, segments_BxI)))
        layer_class = rematerialised(EncoderLayer, config)
        for i, (of_weights, *of_hidden) in enumerate(layers):
            factors = (
                by_key(of_weights, config.num_heads),
                *(by_segment(place, segments_BxI) for place in of_hidden),
            )
            x_BxIxD = layer_class(config, name=f"layers_{i}")(x_BxIxD, mask, bias, factors)
        x_BxIxD = RMSNorm(config.dtype, name="encoder_norm")(x_BxIxD)
        # T5X's last encoder dropout is the one that does not share its zeros along length.
        return drop(x_BxIxD, None if last is None else last.reshape(x_BxIxD.shape))


class Decoder(nn.Module):
    """The decoder stack, from embedded tokens to logits."""

    config: T5Config
    embedding: Embedding

    def setup(self) -> None:
        config = self.config
        self.relpos_bias = RelativeBias(config, bidirectional=False)
        layer_class = rematerialised(DecoderLayer, config)
        self.layers = [layer_class(config) for _ in range(config.num_decoder_layers)]
        self.decoder_norm = RMSNorm(config.dtype)
        if not config.tie_embeddings:
            self.logits_dense = Dense(config.vocab_size, ("embed", "vocab"))

    def encoder_keys_values(self, encoded_BxIxD: jax.Array) -> tuple[KeysValues, ...]:
        """What the cross-attention of each layer reads."""
        return tuple(layer.encoder_keys_values(encoded_BxIxD) for layer in self.layers)

    def __call__(
        self,
        tokens_BxT: jax.Array,
        encoder_keys_values: tuple[KeysValues, ...],
        self_mask: jax.Array,
        cross_mask: jax.Array,
        segments_BxT: jax.Array,
        deterministic: bool,
    ) -> jax.Array:
        """float32 logits [B, T, V] of all target positions."""
        rows, length = tokens_BxT.shape
        heads, width = self.config.num_heads, SEGMENT_SLOTS * self.config.embed_dim
        inputs = encoder_keys_values[0][0].shape[1]
        bias = self.relpos_bias(length, length)
        mlp_dim = SEGMENT_SLOTS * self.config.mlp_dim
        places = [heads * length, width, heads * inputs, width, mlp_dim, width]
        places = [[width], *[places] * len(self.layers), [width]]
        (first,), *layers, (last,) = dropout_factors(self, deterministic, rows, places)
        spread = functools.partial(by_segment, segments_BxL=segments_BxT)
        x_BxTxD = residual_stream(drop(self.embedding(tokens_BxT), spread(first)))
        for i, layer in enumerate(self.layers):
            of_self, attention, of_cross, *of_hidden = layers[i]
            factors = [by_key(of_self, heads), spread(attention), by_key(of_cross, heads)]
            factors += map(spread, of_hidden)
            keys_values = encoder_keys_values[i]
            x_BxTxD = layer(x_BxTxD, keys_values, self_mask, cross_mask, bias, factors)
        return self._logits(x_BxTxD, spread(last))

    def step(
        self,
        tokens_B: jax.Array,
        position: jax.Array,
        cache: tuple[KeysValues, ...],
        encoder_keys_values: tuple[KeysValues, ...],
        cross_mask: jax.Array,
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        """float32 logits [B, V] of one target position, and the grown cache."""
        length = cache[0][0].shape[1]
        bias_1xHx1xT = self.relpos_bias(length, length, only_query=position)
        x_Bx1xD = self.embedding(tokens_B[:, None])
        grown = []
        for layer, own, keys_values in zip(self.layers, cache, encoder_keys_values, strict=True):
            x_Bx1xD, own = layer.step(x_Bx1xD, position, own, keys_values, cross_mask, bias_1xHx1xT)
            grown.append(own)
        return self._logits(x_Bx1xD, None)[:, 0], tuple(grown)

    def _logits(self, x_BxTxD: jax.Array, factors: jax.Array | None) -> jax.Array:
        y_BxTxD = drop(self.decoder_norm(x_BxTxD), factors)
        output = self.embedding.attend if self.config.tie_embeddings else self.logits_dense
        return nn.with_logical_constraint(output(y_BxTxD), ("batch", "length", "vocab"))


class T5(nn.Module):
    """The whole student: apply with {"params": params}, and for dropout rngs={"dropout": key}."""

    config: T5Config

    def setup(self) -> None:
        self.token_embedder = Embedding(self.config)
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config, self.token_embedder)

    def __call__(self, batch: Mapping[str, jax.Array], *, deterministic: bool) -> jax.Array:
        """Logits of a batch, plain or packed.

        Args:
          batch: `encoder_input_tokens` [B, I], `decoder_input_tokens` and
            `decoder_target_tokens` [B, T]; for packed rows also `encoder_segment_ids`
            and `decoder_segment_ids`. Other features (positions) are not needed:
            distances inside a segment do not depend on where it starts.
          deterministic: no dropout; otherwise an rng named "dropout" is needed.

        Returns:
          float32 [B, T, V]; meaningless where the target is padding.
        """
        inputs = batch["encoder_input_tokens"], batch.get("encoder_segment_ids")
        encoded_BxIxD = self.encode(*inputs, deterministic)
        encoder_BxI = segments(*inputs)
        decoder_BxT = segments(batch["decoder_target_tokens"], batch.get("decoder_segment_ids"))
        self_mask = segment_mask(decoder_BxT, decoder_BxT) & causal_mask(decoder_BxT.shape[1])
        return self.decoder(
            batch["decoder_input_tokens"],
            self.decoder.encoder_keys_values(encoded_BxIxD),
            self_mask,
            segment_mask(decoder_BxT, encoder_BxI),
            decoder_BxT,
            deterministic,
        )

    def encode(
        self,
        encoder_input_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Encoder states [B, I, D] of tokens [B, I], plain or packed."""
        segments_BxI = segments(encoder_input_tokens, encoder_segment_ids)
        embedded_BxIxD = self.token_embedder(encoder_input_tokens)
        return self.encoder(embedded_BxIxD, segments_BxI, deterministic)

    def encoder_keys_values(self, encoded_BxIxD: jax.Array) -> tuple[KeysValues, ...]:
        """What each decoder layer reads of the encoder: made once, then given to the next two."""
        return self.decoder.encoder_keys_values(encoded_BxIxD)

    def decode_step(
        self,
        tokens_B: jax.Array,
        position: jax.Array,
        cache: tuple[KeysValues, ...],
        encoder_keys_values: tuple[KeysValues, ...],
        cross_mask: jax.Array,
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        """Logits [B, V] of the token after `tokens_B`, which stands at `position`.

        Args:
          tokens_B: the decoder's input token, 0 at position 0.
          position: int scalar below the cache's length.
          cache: from `empty_cache`, then from the step before.
          encoder_keys_values: from the method of that name.
          cross_mask: bool [B, 1, 1, I], true on input tokens.
        """
        return self.decoder.step(tokens_B, position, cache, encoder_keys_values, cross_mask)

    def decode_candidates(
        self,
        input_tokens_BxCxT: jax.Array,
        encoder_keys_values: tuple[KeysValues, ...],
        cross_mask: jax.Array,
    ) -> jax.Array:
        """Logits [B, C, T, V] of C targets for each of B inputs, which are encoded once.

        Args:
          input_tokens_BxCxT: targets shifted right, 0 first.
          encoder_keys_values: of B rows.
          cross_mask: bool [B, 1, 1, I], true on input tokens.
        """
        rows, count, length = input_tokens_BxCxT.shape
        logits = self.decoder(
            input_tokens_BxCxT.reshape(rows * count, length),
            encoder_keys_values,
            causal_mask(length),
            cross_mask,
            jnp.ones((rows * count, length), jnp.int32),
            True,
        )
        return logits.reshape(rows, count, length, -1)


def empty_cache(config: T5Config, rows: int, length: int) -> tuple[KeysValues, ...]:
    """Zero keys and values [B, T, H, K] of every decoder layer's self-attention."""
    shape = (rows, length, config.num_heads, config.head_dim)
    zeros = jnp.zeros(shape, config.dtype)
    return ((zeros, zeros),) * config.num_decoder_layers
