"""The names of a student's parameters in Hugging Face's T5, and which are transposed there.

    encoder/layers_3/attention/query/kernel  ->  encoder.block.3.layer.0.SelfAttention.q.weight

A kernel maps rows [.., in] as x @ kernel here and as x @ weight.T there; the table of relative
biases is [H, buckets] here and [buckets, H] there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax
from flax import traverse_util

from distill.config.student import T5Config
from distill.student.params import STACKS, param_shapes

EMBEDDING, OUTPUT = "shared.weight", "lm_head.weight"
# Other names of the embedding, which files may have beside shared.weight or instead of it.
EMBEDDING_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Old T5 checkpoints have it; no version of the network reads it.
UNUSED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)

_LAYER = "layers_"
_MATRICES = {"query": "q", "key": "k", "value": "v", "out": "o"}
# Place in a block, and name, of the parts of a layer.
_PARTS = {
    "encoder": {
        "pre_attention_layer_norm": "layer.0.layer_norm",
        "attention": "layer.0.SelfAttention",
        "pre_mlp_layer_norm": "layer.1.layer_norm",
        "mlp": "layer.1.DenseReluDense",
    },
    "decoder": {
        "pre_self_attention_layer_norm": "layer.0.layer_norm",
        "self_attention": "layer.0.SelfAttention",
        "pre_cross_attention_layer_norm": "layer.1.layer_norm",
        "encoder_decoder_attention": "layer.1.EncDecAttention",
        "pre_mlp_layer_norm": "layer.2.layer_norm",
        "mlp": "layer.2.DenseReluDense",
    },
}
_WHOLE = {
    ("token_embedder", "embedding"): EMBEDDING,
    ("decoder", "logits_dense", "kernel"): OUTPUT,
} | {
    path: name
    for stack in _PARTS
    for path, name in (
        ((stack, f"{stack}_norm", "scale"), f"{stack}.final_layer_norm.weight"),
        (
            (stack, "relpos_bias", "rel_embedding"),
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a student whose layers are one by one, and its tensor.

    Attributes:
      path: its names in the student's tree.
      shape: its shape there.
      tensor: name of the tensor.
      is_transposed: whether the tensor is its transpose.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    tensor: str
    is_transposed: bool

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return self.shape[::-1] if self.is_transposed else self.shape

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def place(self, is_stacked: bool) -> tuple[tuple[str, ...], int | None]:
        """Path of the leaf that holds it, and its place along the axis of layers.

        Args:
          is_stacked: whether the tree is that of SCAN_LAYERS.

        Returns:
          (path, None) where the leaf is the parameter.
        """
        if not is_stacked or not self.path[1].startswith(_LAYER):
            return self.path, None
        stack, layer, *rest = self.path
        return (stack, STACKS[stack], *rest), int(layer.removeprefix(_LAYER))


@functools.lru_cache(maxsize=16)
def parameters(student: T5Config) -> tuple[Parameter, ...]:
    """All parameters of a student, in the order of its tree.

    Args:
      student: its configuration; SCAN_LAYERS does not matter here.
    """
    shapes = param_shapes(dataclasses.replace(student, scan_layers=False))
    flat: Mapping[tuple[str, ...], jax.ShapeDtypeStruct] = traverse_util.flatten_dict(shapes)
    return tuple(Parameter(path, leaf.shape, *tensor_name(path)) for path, leaf in flat.items())


def tensor_name(path: tuple[str, ...]) -> tuple[str, bool]:
    """The tensor of a parameter, and whether it is transposed.

    Args:
      path: names of the parameter in the tree of a student whose layers are one by one.

    Raises:
      KeyError: no parameter has that path.
    """
    is_transposed = path[-1] in ("kernel", "rel_embedding")
    if path in _WHOLE:
        return _WHOLE[path], is_transposed
    stack, layer, part, *rest = path
    block = f"{stack}.block.{layer.removeprefix(_LAYER)}.{_PARTS[stack][part]}"
    if len(rest) == 1:  # a norm's scale
        return f"{block}.weight", is_transposed
    return f"{block}.{_MATRICES.get(rest[0], rest[0])}.weight", is_transposed
