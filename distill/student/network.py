"""The student: a T5 v1.1 encoder-decoder with T5X's parameter tree.

Follows t5x/examples/t5/network.py in what it computes (packing included), not in
how: masks come from one segment id per token, the relative bias is made once per
stack, and decoding passes its cache explicitly instead of keeping it in variables.
With scan_layers the tree is that of t5x/examples/scalable_t5, but for the relative bias,
which stays the stack's: there it is a parameter of each layer, which is another model.
Shape letters: B rows, I encoder length, T target length, S keys, D embed, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.attend import Bias, at_least_float32
from distill.student.attended import HeadsFirst, KeysValues, RealTokens, States
from distill.student.blocks import (
    DecoderLayer,
    EncoderLayer,
    decoder_places,
    encoder_places,
    layer_class,
    scanned,
)
from distill.student.dropout import (
    SEGMENT_SLOTS,
    by_layer,
    by_segment,
    drop,
    dropout_factors,
)
from distill.student.label_tree import TreeArrays
from distill.student.layers import (
    Dense,
    Embedding,
    RMSNorm,
    causal_mask,
    constrained,
    residual_stream,
    segment_mask,
    segments,
)
from distill.student.relative_bias import RelativeBias

# Parameters or anything of their tree: nested dicts, arrays at the leaves. Recursive types say it
# more exactly, and then no function of jax.tree can be called with one.
Params = dict[str, Any]
# Keys and values of all layers: a tuple of each layer's, or stacked [L, ...] with scan_layers.
StackKeysValues = tuple[KeysValues | HeadsFirst, ...] | KeysValues | HeadsFirst
# What cross-attention reads; all layers read the same states, but not with scan_layers.
StackSources = StackKeysValues | States
# What layers own, one by one, or stacked in each array: cache, keys and values, dropout factors.
PerLayer = Any


class Encoder(nn.Module):
    """The encoder stack, from embedded tokens to normed states."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x_BxIxD: jax.Array, segments_BxI: jax.Array, deterministic: bool
    ) -> jax.Array:
        """Maps embedded tokens [B, I, D] to encoder states [B, I, D]."""
        config = self.config
        count = config.num_encoder_layers
        rows, length, width = x_BxIxD.shape
        layer = sum(encoder_places(config, length))
        places = [[SEGMENT_SLOTS * width], [count * layer], [length * width]]
        (first,), (of_layers,), (last,) = dropout_factors(self, deterministic, rows, places)
        of_layers = by_layer(of_layers, count)
        mask = segment_mask(segments_BxI, segments_BxI)
        bias = RelativeBias(config, bidirectional=True, name="relpos_bias").of_stack(length, length)
        x_BxIxD = residual_stream(drop(x_BxIxD, by_segment(first, segments_BxI, config.dtype)))
        shared = segments_BxI, mask, bias
        layer_cls = layer_class(EncoderLayer, config)
        if config.scan_layers:
            every = scanned(layer_cls, count, {"__call__": len(shared)})
            x_BxIxD, _ = every(config, name="encoder")(x_BxIxD, of_layers, *shared)
        else:
            for i in range(count):
                layer_factors = None if of_layers is None else of_layers[i]
                x_BxIxD, _ = layer_cls(config, name=f"layers_{i}")(x_BxIxD, layer_factors, *shared)
        x_BxIxD = RMSNorm(config.dtype, name="encoder_norm")(x_BxIxD)
        # T5X's last encoder dropout is the one that does not share its zeros along length.
        return drop(x_BxIxD, None if last is None else last.reshape(x_BxIxD.shape))


class Decoder(nn.Module):
    """The decoder stack, from embedded tokens to logits."""

    config: T5Config
    embedding: Embedding

    def setup(self) -> None:
        config = self.config
        count = config.num_decoder_layers
        self.relpos_bias = RelativeBias(config, bidirectional=False)
        layer_cls = layer_class(DecoderLayer, config)
        if config.scan_layers:
            shared = {"encoder_keys_values": 1, "__call__": 6, "step": 3}
            self.decoder = scanned(layer_cls, count, shared)(config)
        else:
            self.layers = [layer_cls(config) for _ in range(count)]
        self.decoder_norm = RMSNorm(config.dtype)
        if not config.tie_embeddings:
            dtype = at_least_float32(config.dtype)
            self.logits_dense = Dense(config.vocab_size, ("embed", "vocab"), dtype=dtype)

    def _each(
        self,
        method: str,
        x: jax.Array | None,
        per_layer: PerLayer,
        *shared: Bias | RealTokens,
    ) -> tuple[Any, Any]:
        """Calls a method of all layers, one after the other: the last x, and their results."""
        if self.config.scan_layers:
            last, results = getattr(self.decoder, method)(x, per_layer, *shared)
            return last, results
        one_by_one = []
        for layer, layer_inputs in zip(self.layers, per_layer, strict=True):
            x, result = getattr(layer, method)(x, layer_inputs, *shared)
            one_by_one.append(result)
        return x, tuple(one_by_one)

    def _paired(self, *of_layers: PerLayer) -> PerLayer:
        """Joins what layers own or share of several kinds, None for none of a kind."""
        if self.config.scan_layers:
            return of_layers
        count = self.config.num_decoder_layers
        each = ([k] * count if k is None or isinstance(k, States) else k for k in of_layers)
        return list(zip(*each, strict=True))

    def encoder_keys_values(self, encoded_BxIxD: jax.Array) -> StackKeysValues:
        """What the cross-attention of each layer reads."""
        per_layer = None if self.config.scan_layers else [None] * self.config.num_decoder_layers
        keys_values: StackKeysValues
        _, keys_values = self._each("encoder_keys_values", None, per_layer, encoded_BxIxD)
        return keys_values

    def __call__(
        self,
        tokens_BxT: jax.Array,
        encoded_BxIxD: jax.Array | None,
        encoder_keys_values: StackSources | None,
        self_mask: jax.Array,
        cross_mask: jax.Array,
        segments_BxT: jax.Array,
        deterministic: bool,
        bias: Bias = None,
        real: RealTokens | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """What `logits` takes: [B, T, D] of all target positions, and dropout factors.

        Give either the encoder's states or the keys and values that `encoder_keys_values` makes
        of them. Without `bias`, the self-attention uses the relative bias of row positions. With
        `real`, tokens are [1, M], and masks and bias are those of the rows.
        """
        count = self.config.num_decoder_layers
        rows, length = tokens_BxT.shape
        if bias is None:
            bias = self.relpos_bias.of_stack(length, length)
        width = SEGMENT_SLOTS * self.config.embed_dim
        layer = sum(decoder_places(self.config, length, cross_mask.shape[-1]))
        places = [[width], [count * layer], [width]]
        (first,), (of_layers,), (last,) = dropout_factors(self, deterministic, rows, places)
        x_BxTxD = self.embedding(tokens_BxT)
        x_BxTxD = residual_stream(drop(x_BxTxD, by_segment(first, segments_BxT, self.config.dtype)))
        per_layer = self._paired(encoder_keys_values, by_layer(of_layers, count))
        shared = encoded_BxIxD, segments_BxT, self_mask, cross_mask, bias, real
        x_BxTxD, _ = self._each("__call__", x_BxTxD, per_layer, *shared)
        return x_BxTxD, by_segment(last, segments_BxT, self.config.dtype)

    def bias_by_depth(self, depths_BxN: jax.Array, length: int) -> jax.Array:
        """float32 [B, H, N, N]: the self-attention's bias between tokens at given positions.

        Args:
          depths_BxN: the position of each token in its target, below `length`.
          length: number of positions (static).
        """
        bias_HxTxT = self.relpos_bias(length, length)[0]
        bias_HxBxNxN = bias_HxTxT[:, depths_BxN[:, :, None], depths_BxN[:, None, :]]
        return jnp.moveaxis(bias_HxBxNxN, 0, 1)

    def step(
        self,
        tokens_B: jax.Array,
        position: jax.Array,
        cache: StackKeysValues,
        encoder_keys_values: StackSources,
        cross_mask: jax.Array,
    ) -> tuple[jax.Array, StackKeysValues]:
        """float32 logits [B, V] of one target position, and the grown cache."""
        length = jax.tree.leaves(cache)[0].shape[-3]
        bias_1xHx1xT = self.relpos_bias(length, length, only_query=position)
        x_Bx1xD = self.embedding(tokens_B[:, None])
        per_layer = self._paired(cache, encoder_keys_values)
        x_Bx1xD, cache = self._each("step", x_Bx1xD, per_layer, position, cross_mask, bias_1xHx1xT)
        return self.logits(x_Bx1xD, None)[:, 0], cache

    def logits(self, x_BxTxD: jax.Array, factors: jax.Array | None) -> jax.Array:
        """float32 logits [B, T, V] of what the last layer gives."""
        y_BxTxD = drop(self.decoder_norm(x_BxTxD), factors)
        output = self.embedding.attend if self.config.tie_embeddings else self.logits_dense
        logits_BxTxV: jax.Array = output(y_BxTxD)
        return constrained(logits_BxTxV, ("batch", "length", "vocab"))


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
        last = self.decoder(
            batch["decoder_input_tokens"],
            encoded_BxIxD,
            None,
            self_mask,
            segment_mask(decoder_BxT, encoder_BxI),
            decoder_BxT,
            deterministic,
        )
        return self.decoder.logits(*last)

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

    def encoder_keys_values(self, encoded_BxIxD: jax.Array) -> StackKeysValues:
        """What each decoder layer reads of the encoder: made once, then given to the next two."""
        return self.decoder.encoder_keys_values(encoded_BxIxD)

    def decode_step(
        self,
        tokens_B: jax.Array,
        position: jax.Array,
        cache: StackKeysValues,
        encoder_keys_values: StackSources,
        cross_mask: jax.Array,
    ) -> tuple[jax.Array, StackKeysValues]:
        """Logits [B, V] of the token after `tokens_B`, which stands at `position`.

        Args:
          tokens_B: the decoder's input token, 0 at position 0.
          position: int scalar below the cache's length.
          cache: from `empty_cache`, then from the step before.
          encoder_keys_values: from the method of that name, or the encoder's states.
          cross_mask: bool [B, 1, 1, I], true on input tokens.
        """
        return self.decoder.step(tokens_B, position, cache, encoder_keys_values, cross_mask)

    def decode_tree(
        self,
        tree: TreeArrays,
        encoder_keys_values: StackSources,
        cross_mask: jax.Array,
        real: RealTokens | None = None,
    ) -> jax.Array:
        """What `logits` takes, [B, N, D], of each prefix of each row's labels, in one pass.

        Args:
          tree: of B rows, or of 1 row whose labels all rows share.
          encoder_keys_values: of B rows, or the encoder's states.
          cross_mask: bool [B, 1, 1, I], true on input tokens.
          real: the prefixes to compute, for a result of [1, M, D]; None for all.
        """
        tokens_BxN = jnp.asarray(tree.tokens_BxN)
        tokens_BxN = jnp.broadcast_to(tokens_BxN, (len(cross_mask), tokens_BxN.shape[1]))
        if real is not None:
            tokens_BxN = real.collect(tokens_BxN[..., None])[..., 0]
        last_BxNxD, _ = self.decoder(
            tokens_BxN,
            None,
            encoder_keys_values,
            jnp.asarray(tree.visible_BxNxN)[:, None],
            cross_mask,
            jnp.ones_like(tokens_BxN),
            True,
            self.decoder.bias_by_depth(jnp.asarray(tree.depths_BxN), tree.path_BxCxT.shape[-1]),
            real,
        )
        return last_BxNxD

    def logits(self, last_BxNxD: jax.Array) -> jax.Array:
        """float32 logits [B, N, V] after each prefix that `decode_tree` read."""
        return self.decoder.logits(last_BxNxD, None)


def apply_student(config: T5Config, params: Params, *arguments: Any, **settings: Any) -> Any:
    """Calls a method of the student; flax cannot say what type it returns.

    Args:
      config: its sizes.
      params: its parameters.
      arguments: of the method.
      settings: `method` ("__call__" without one), `rngs`, keywords of the method.
    """
    return T5(config).apply({"params": params}, *arguments, **settings)


def empty_cache(config: T5Config, rows: int, length: int) -> StackKeysValues:
    """Zero keys and values [B, T, H, K] of every decoder layer's self-attention."""
    shape = (rows, length, config.num_heads, config.head_dim)
    if config.scan_layers:
        zeros = jnp.zeros((config.num_decoder_layers, *shape), config.dtype)
        return KeysValues(zeros, zeros)
    zeros = jnp.zeros(shape, config.dtype)
    return (KeysValues(zeros, zeros),) * config.num_decoder_layers
