"""T5Config: the sizes and settings of a student, checked when they are made (no jax here)."""

from __future__ import annotations

import dataclasses

from distill.errors import UserError, unknown

ACTIVATIONS = ("gelu", "linear", "relu", "silu", "tanh")
DTYPES = ("float32", "bfloat16", "float64")
REMATS = ("none", "minimal", "full")
_SIZES = (
    "vocab_size",
    "embed_dim",
    "num_heads",
    "head_dim",
    "mlp_dim",
    "num_encoder_layers",
    "num_decoder_layers",
)
_MOST_SIZE, _MOST_LAYERS = 2**20, 1024  # beyond these a student fits no machine


@dataclasses.dataclass(frozen=True)
class T5Config:
    """A T5 v1.1 encoder-decoder; each field is set by the macro of the same name in capitals.

    Hashable, so it can be a static argument of `jax.jit`.

    Attributes:
      vocab_size: rows of the embedding and columns of the logits (V); ids 0 and 1 are padding and
        EOS.
      embed_dim: width of the residual stream (D).
      num_heads: attention heads (H).
      head_dim: width of one head (K); H * K need not be D.
      mlp_dim: hidden width of a feed-forward block (F).
      num_encoder_layers: layers of the encoder.
      num_decoder_layers: layers of the decoder.
      dropout_rate: dropout probability, at the places where T5X applies dropout.
      mlp_activations: an activation (one of ACTIVATIONS) per input projection of the feed-forward
        block; the outputs are multiplied. ('gelu', 'linear') is the gated GELU of T5 v1.1
        (arXiv:2002.05202), ('relu',) is T5 v1.0.
      tie_embeddings: use the embedding as the output layer (T5X's `logits_via_embedding`) instead
        of a matrix of its own.
      scale_tied_logits: with TIE_EMBEDDINGS = True, divide the logits by sqrt(D), as T5 and T5X do.
        False is for Hugging Face checkpoints that share the matrix and set `tie_word_embeddings`
        to false.
      embed_init: standard deviation of the initial embedding (T5X: 1.0).
      direction_init: size, in nats, of an initial bias in the encoder's attention: even heads
        favor tokens before a position, odd heads tokens after it (T5X: 0). It helps a student
        that is trained from random parameters (`distill.student.relative_bias.RelativeBias`).
      dtype: type of the activations; parameters, softmaxes and logits stay float32. 'float64' is
        for tests, with JAX_ENABLE_X64 (one of DTYPES).
      remat: what the backward pass recomputes instead of storing: nothing, all but products with
        parameters (and, with bfloat16 scores, the results of attention), or everything. It changes
        memory and time, never a result (one of REMATS).
      scan_layers: run the layers of a stack as a scan over stacked parameters, so that compile
        time does not grow with depth. Same function, other initial values
        (`distill.student.params.stack_layers`).
      float32_attention_logits: with bfloat16 activations, store attention scores in float32, for
        more exact gradients and more memory traffic. The default, bfloat16, is T5X's as well. The
        softmax is computed in float32 in both cases.

    Raises:
      UserError: a value outside its range, naming its macro.
    """

    vocab_size: int
    embed_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    dropout_rate: float = 0.1
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    tie_embeddings: bool = False
    scale_tied_logits: bool = True
    embed_init: float = 1.0
    direction_init: float = 0.0
    dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = False
    float32_attention_logits: bool = False

    def __post_init__(self) -> None:
        for field in _SIZES:
            least = 2 if field == "vocab_size" else 1
            value = getattr(self, field)
            most = _MOST_LAYERS if field.endswith("layers") else _MOST_SIZE
            if not _is_int(value) or value < least:
                raise _wrong(value, f"an integer >= {least}", field)
            if value > most:
                raise _wrong(value, f"at most {most:,}", field)
        if not _is_number(self.dropout_rate) or not 0 <= self.dropout_rate < 1:
            raise _wrong(self.dropout_rate, "a number >= 0 and < 1", "dropout_rate")
        if not _is_number(self.embed_init) or not 0 < self.embed_init < float("inf"):
            raise _wrong(self.embed_init, "a number > 0", "embed_init")
        if not _is_number(self.direction_init) or not 0 <= self.direction_init < float("inf"):
            raise _wrong(self.direction_init, "a number >= 0", "direction_init")
        for field in (
            "tie_embeddings",
            "scale_tied_logits",
            "scan_layers",
            "float32_attention_logits",
        ):
            if not isinstance(getattr(self, field), bool):
                raise _wrong(getattr(self, field), "True or False", field)
        if self.dtype not in DTYPES:
            raise _wrong(self.dtype, f"one of {', '.join(DTYPES)}", "dtype")
        if self.remat not in REMATS:
            raise unknown("remat", self.remat, REMATS, "macro REMAT")
        self._check_activations()

    def _check_activations(self) -> None:
        """Makes a tuple of the list that gin may give, and checks its names."""
        names = self.mlp_activations
        expected = f"a non-empty tuple of names from {', '.join(ACTIVATIONS)}"
        if not isinstance(names, tuple | list) or not names:
            raise _wrong(names, expected, "mlp_activations")
        if any(name not in ACTIVATIONS for name in names):
            raise _wrong(names, expected, "mlp_activations")
        object.__setattr__(self, "mlp_activations", tuple(names))

    @property
    def narrow_scores(self) -> bool:
        """Whether attention scores are stored in less than float32."""
        return self.dtype == "bfloat16" and not self.float32_attention_logits

    @property
    def joined_dim(self) -> int:
        """Width of all heads together, H * K."""
        return self.num_heads * self.head_dim


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _wrong(got: object, expected: str, field: str) -> UserError:
    macro = field.upper()
    return UserError(
        f"got {macro} = {got!r}, expected {expected} (set in a size file, an experiment, or with "
        f"--gin.{macro}=...)"
    )
