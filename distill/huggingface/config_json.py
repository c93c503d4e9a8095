"""config.json of Hugging Face's T5: read into macros, and written.

`tie_word_embeddings` does not say what its name says. Up to version 4 of transformers, false means
that logits are not divided by sqrt(d_model); a model of T5 v1.1 or Flan-T5 has a matrix of its own
for them, and one that shares the embedding may have false as well. From version 5 on it is always
written as true, and `scale_decoder_outputs` beside it says whether logits are divided; of mT5 they
never are. Whether the matrix is shared is therefore taken from the tensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from distill.common.text_files import parse_json, read_bytes
from distill.config.student import T5Config
from distill.errors import UserError, hint, unknown
from distill.huggingface.names import EMBEDDING, EMBEDDING_ALIASES, OUTPUT
from distill.huggingface.safetensors_files import TensorFolder
from distill.student.layers import MAX_DISTANCE, NORM_EPSILON, NUM_BUCKETS

FILE = "config.json"
MODEL_TYPES = ("mt5", "t5")
_SIZES = {
    "EMBED_DIM": "d_model",
    "MLP_DIM": "d_ff",
    "NUM_HEADS": "num_heads",
    "HEAD_DIM": "d_kv",
    "NUM_ENCODER_LAYERS": "num_layers",
    "NUM_DECODER_LAYERS": "num_decoder_layers",
}
# What the student has as a constant, and what transformers takes where config.json has none.
_CONSTANTS = {
    "relative_attention_num_buckets": (NUM_BUCKETS, 32),
    "relative_attention_max_distance": (MAX_DISTANCE, 128),
    "layer_norm_epsilon": (NORM_EPSILON, 1e-6),
    "pad_token_id": (0, 0),
    "eos_token_id": (1, 1),
    "decoder_start_token_id": (0, 0),
}
# transformers' names of activations; its 'gelu' is the exact one, which the student does not have.
_ACTIVATIONS = {"gelu_new": "gelu", "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh"}
_PROJECTIONS = ("gated-gelu", "gated-silu", "relu")


@dataclasses.dataclass(frozen=True)
class FolderConfig:
    """What a folder says about its model.

    Attributes:
      folder: the folder.
      model_type: "t5" (T5, T5 v1.1, Flan-T5, byT5, UL2) or "mt5".
      macros: the macros that it sets: all sizes, VOCAB_SIZE (rows of the embedding),
        TIE_EMBEDDINGS, SCALE_TIED_LOGITS and MLP_ACTIVATIONS.
      embedding: the tensor that holds the embedding.
      output: the tensor that holds the output matrix; None where it is the embedding.
    """

    folder: epath.Path
    model_type: str
    macros: Mapping[str, object]
    embedding: str
    output: str | None

    @property
    def student(self) -> T5Config:
        """The student of these macros; other settings have their defaults."""
        settings: dict[str, Any] = {name.lower(): value for name, value in self.macros.items()}
        return T5Config(**settings)


def read_config(folder: epath.PathLike) -> FolderConfig:
    """Reads config.json, and of the tensors what it does not say.

    Args:
      folder: local or gs://, with config.json and safetensors.

    Raises:
      UserError: a missing or damaged file; a model that the student cannot be.
    """
    return config_of(TensorFolder(folder))


def config_of(tensors: TensorFolder) -> FolderConfig:
    """As `read_config`, of a folder whose headers are read."""
    path = tensors.path / FILE
    content = _read(path)
    sizes = {macro: _size(content, key, path) for macro, key in _SIZES.items()}
    _check_constants(content, path)
    embedding = _embedding(tensors)
    rows = tensors.tensors[embedding].shape[0]
    if content.get("vocab_size", rows) != rows:
        raise UserError(
            f"{path} has vocab_size {content['vocab_size']}, but {embedding} has {rows:,} rows: "
            "write the number of rows there if the tensors are right"
        )
    output = _output(tensors, embedding)
    is_scaled = _is_scaled(content, output is None, path)
    macros: dict[str, object] = {
        "VOCAB_SIZE": rows,
        **sizes,
        "MLP_ACTIVATIONS": _activations(content, path),
        "TIE_EMBEDDINGS": output is None,
        "SCALE_TIED_LOGITS": is_scaled or output is not None,
    }
    return FolderConfig(tensors.path, content["model_type"], macros, embedding, output)


def _read(path: epath.Path) -> dict[str, Any]:
    """The JSON object, of a known type of model."""
    try:
        content = parse_json(read_bytes(path, "It has the sizes of the model"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}): download or copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    kind = content.get("model_type")
    if kind not in MODEL_TYPES:
        raise unknown("model type", str(kind), MODEL_TYPES, f"model_type in {path}")
    return content


def _size(content: Mapping[str, Any], key: str, path: epath.Path) -> int:
    value = content.get(key)
    if value is None and key == "num_decoder_layers":
        value = content.get("num_layers")
    if type(value) is not int or value < 1:
        got = f"{key} = {value!r}" if key in content else f"no {key}"
        raise UserError(f"{path}: got {got}, expected an integer above 0")
    return value


def _check_constants(content: Mapping[str, Any], path: epath.Path) -> None:
    for key, (expected, default) in _CONSTANTS.items():
        value = content.get(key)
        value = default if value is None else value
        if value != expected:
            raise UserError(
                f"{path}: got {key} = {value!r}, expected {expected!r}, which the student has as a "
                "constant: this model cannot be read"
            )


def _activations(content: Mapping[str, Any], path: epath.Path) -> tuple[str, ...]:
    """MLP_ACTIVATIONS; `dense_act_fn` and `is_gated_act` override what feed_forward_proj says."""
    projection = str(content.get("feed_forward_proj", "relu"))
    gate, _, name = projection.rpartition("-")
    name = "gelu_new" if projection == "gated-gelu" else name
    name = content.get("dense_act_fn") or name
    is_gated = content.get("is_gated_act", gate == "gated")
    if gate not in ("", "gated") or name not in _ACTIVATIONS:
        raise UserError(
            f"{path}: got feed_forward_proj = {projection!r} with the activation {name!r}; "
            f"{hint(projection, _PROJECTIONS)}"
        )
    activation = _ACTIVATIONS[name]
    return (activation, "linear") if is_gated else (activation,)


def _embedding(tensors: TensorFolder) -> str:
    """The tensor of the embedding."""
    for name in (EMBEDDING, *EMBEDDING_ALIASES, OUTPUT):
        if name in tensors.tensors:
            if len(tensors.tensors[name].shape) != 2:
                raise UserError(
                    f"{tensors.tensors[name].file}: the tensor {name} has shape "
                    f"{tensors.tensors[name].shape}, expected [vocab_size, d_model]"
                )
            return name
    raise UserError(f"{tensors.path} has no tensor {EMBEDDING}: expected a T5 with its decoder")


def _output(tensors: TensorFolder, embedding: str) -> str | None:
    """The tensor of an output matrix that is not the embedding."""
    if OUTPUT not in tensors.tensors or embedding == OUTPUT:
        return None
    return None if is_equal(tensors, embedding, OUTPUT) else OUTPUT


def is_equal(tensors: TensorFolder, one: str, other: str) -> bool:
    """Whether two tensors have the same shape and numbers; reads as far as they agree."""
    if tensors.tensors[one].shape != tensors.tensors[other].shape:
        return False
    pieces = zip(tensors.rows(one), tensors.rows(other), strict=False)
    return all(np.array_equal(a, b) for (_, a), (_, b) in pieces)


def _is_scaled(content: Mapping[str, Any], is_shared: bool, path: epath.Path) -> bool:
    """Whether logits are divided by sqrt(d_model)."""
    del is_shared, path
    if "scale_decoder_outputs" in content:
        return bool(content["scale_decoder_outputs"])
    return content.get("tie_word_embeddings") is not False and content["model_type"] != "mt5"


def config_dict(student: T5Config, model_type: str = "t5") -> dict[str, object]:
    """The content of config.json, for version 4 and 5 of transformers alike.

    Args:
      student: its sizes.
      model_type: one of MODEL_TYPES.

    Raises:
      UserError: activations that transformers' T5 does not have.
    """
    return {
        "architectures": [{"t5": "T5", "mt5": "MT5"}[model_type] + "ForConditionalGeneration"],
        "model_type": model_type,
        "is_encoder_decoder": True,
        "vocab_size": student.vocab_size,
        **{key: getattr(student, macro.lower()) for macro, key in _SIZES.items()},
        "feed_forward_proj": _projection(student.mlp_activations),
        "dropout_rate": student.dropout_rate,
        **{key: value for key, (value, _) in _CONSTANTS.items()},
        "tie_word_embeddings": student.tie_embeddings and student.scale_tied_logits,
        "scale_decoder_outputs": student.tie_embeddings and student.scale_tied_logits,
        "use_cache": True,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def _projection(activations: tuple[str, ...]) -> str:
    """feed_forward_proj of MLP_ACTIVATIONS."""
    names = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "tanh": "tanh"}
    first, *others = activations
    if first not in names or others not in ([], ["linear"]):
        raise UserError(
            f"got MLP_ACTIVATIONS = {activations!r}, expected one of {', '.join(names)}, alone or "
            "followed by 'linear': transformers' T5 has no other feed-forward block"
        )
    if not others:
        return names[first]
    return "gated-gelu" if first == "gelu" else f"gated-{names[first]}"
