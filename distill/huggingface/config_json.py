"""config.json of Hugging Face's T5: read into macros, and written.

`tie_word_embeddings` does not say what its name says. Up to version 4 of transformers, false means
that logits are not divided by sqrt(d_model). A model of T5 v1.1 or Flan-T5 also has a matrix of its
own for them, but one that shares the embedding may have false as well. Version 5 always writes
true, and `scale_decoder_outputs` beside it says whether logits are divided; those of mT5 never are.
Whether the matrix is shared is therefore taken from the tensors.
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
from distill.huggingface.safetensors_files import INDEX, TensorFolder
from distill.student.gradients import NORM_EPSILON
from distill.student.relative_bias import MAX_DISTANCE, NUM_BUCKETS

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
_BYT5_ROWS = 384
_DIVIDING_VERSIONS = ("2", "3", "4")  # of transformers, where mT5's logits can be divided


@dataclasses.dataclass(frozen=True)
class FolderConfig:
    """What a folder says about its model.

    Attributes:
      folder: the folder.
      model_type: "t5" (T5, T5 v1.1, Flan-T5, byT5, UL2) or "mt5".
      family: the file of gin/models with the same network; "t5_1_1" for Flan-T5 too.
      macros: the macros that it sets: all sizes, VOCAB_SIZE (rows of the embedding),
        TIE_EMBEDDINGS, SCALE_TIED_LOGITS and MLP_ACTIVATIONS.
      embedding: the tensor that holds the embedding.
      output: the tensor that holds the output matrix; None where it is the embedding.
    """

    folder: epath.Path
    model_type: str
    family: str
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
    activations = _activations(content, path)
    is_scaled = _is_scaled(content, path)
    embedding = find_embedding(tensors, is_scaled)
    output = find_output(tensors, embedding, is_scaled)
    rows = tensors.tensors[embedding].shape[0]
    if content.get("vocab_size", rows) != rows:
        raise UserError(
            f"{path} has vocab_size {content['vocab_size']}, but {embedding} has {rows:,} rows, "
            "expected the same number: correct config.json if the tensors are right"
        )
    macros: dict[str, object] = {
        "VOCAB_SIZE": rows,
        **sizes,
        "MLP_ACTIVATIONS": activations,
        "TIE_EMBEDDINGS": output is None,
        "SCALE_TIED_LOGITS": is_scaled or output is not None,
    }
    family = _family(content, activations, rows)
    return FolderConfig(tensors.path, content["model_type"], family, macros, embedding, output)


def _family(content: Mapping[str, Any], activations: tuple[str, ...], rows: int) -> str:
    """The file of gin/models of a network."""
    if activations != ("gelu", "linear"):
        return {("relu",): "t5", ("silu", "linear"): "ul2"}.get(activations, "another")
    if content.get("tokenizer_class") == "ByT5Tokenizer" or rows == _BYT5_ROWS:
        return "byt5"
    return "mt5" if content["model_type"] == "mt5" else "t5_1_1"


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


def _is_scaled(content: Mapping[str, Any], path: epath.Path) -> bool:
    """Whether logits are divided by sqrt(d_model), by the version that wrote config.json."""
    flags = {}
    for key in ("tie_word_embeddings", "scale_decoder_outputs"):
        flags[key] = content.get(key)
        if key in content and not isinstance(flags[key], bool):
            raise UserError(f"{path}: got {key} = {flags[key]!r}, expected true or false")
    if content["model_type"] == "mt5":
        version = str(content.get("transformers_version", "4"))
        return flags["tie_word_embeddings"] is True and version.split(".")[0] in _DIVIDING_VERSIONS
    if flags["scale_decoder_outputs"] is not None:
        return flags["scale_decoder_outputs"] is True
    return flags["tie_word_embeddings"] is not False


def find_embedding(tensors: TensorFolder, is_scaled: bool) -> str:
    """The tensor of the embedding.

    Args:
      tensors: of the folder.
      is_scaled: whether logits are divided, as they are only where the output matrix is shared.

    Raises:
      UserError: there is none; encoder and decoder have different ones.
    """
    names = [name for name in (EMBEDDING, *EMBEDDING_ALIASES) if name in tensors.tensors]
    if not names and OUTPUT in tensors.tensors and is_scaled:
        names = [OUTPUT]
    if not names:
        found = f"only {OUTPUT}, a matrix of its own" if OUTPUT in tensors.tensors else "none"
        raise UserError(
            f"{tensors.path} has no embedding: expected {EMBEDDING}, or one of "
            f"{', '.join(EMBEDDING_ALIASES)}, and found {found}: download or copy it again"
        )
    for name in names[1:]:
        if not is_equal(tensors, names[0], name):
            raise UserError(
                f"{tensors.path}: the tensors {names[0]} and {name} differ, expected one embedding "
                "for encoder and decoder: this model cannot be read"
            )
    shape = tensors.tensors[names[0]].shape
    if len(shape) != 2:
        raise UserError(
            f"{tensors.tensors[names[0]].file}: the tensor {names[0]} has shape {list(shape)}, "
            "expected [vocab_size, d_model]"
        )
    return names[0]


def find_output(tensors: TensorFolder, embedding: str, is_scaled: bool) -> str | None:
    """The tensor of an output matrix that is not the embedding; None where it is.

    Args:
      tensors: of the folder.
      embedding: the tensor of the embedding.
      is_scaled: whether logits are divided.

    Raises:
      UserError: a matrix of its own whose logits are divided; one that is lost.
    """
    path = tensors.path / FILE
    if OUTPUT in tensors.aliases and not is_scaled:
        raise UserError(
            f"{tensors.path / INDEX} says that {OUTPUT} is in {tensors.aliases[OUTPUT].name}, "
            "which does not contain it. By config.json it may be a matrix of its own: download or "
            "copy the folder again, or delete the entry if the model shares its embedding"
        )
    if OUTPUT not in tensors.tensors or embedding == OUTPUT:
        return None
    if is_equal(tensors, embedding, OUTPUT):
        return None
    if is_scaled:
        raise UserError(
            f"{path} says that logits are divided by sqrt(d_model), as with a shared matrix, but "
            f"{OUTPUT} differs from {embedding}: version 4 of transformers would ignore the "
            'former and version 5 use it. Set "tie_word_embeddings": false, without '
            '"scale_decoder_outputs", if it is to be used, as in T5 v1.1 and Flan-T5'
        )
    return OUTPUT


def is_equal(tensors: TensorFolder, one: str, other: str) -> bool:
    """Whether two tensors have the same shape and numbers; reads as far as they agree."""
    if tensors.tensors[one].shape != tensors.tensors[other].shape:
        return False
    pieces = zip(tensors.rows(one), tensors.rows(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for (_, a), (_, b) in pieces)


def config_dict(student: T5Config, model_type: str = "t5") -> dict[str, object]:
    """The content of config.json, for versions 4 and 5 of transformers alike.

    Args:
      student: its sizes.
      model_type: one of MODEL_TYPES.

    Raises:
      UserError: a network that transformers does not have.
    """
    is_scaled = student.tie_embeddings and student.scale_tied_logits
    if model_type == "mt5" and is_scaled:
        raise UserError(
            "got TIE_EMBEDDINGS = True with SCALE_TIED_LOGITS = True for the model type 'mt5', "
            "whose logits transformers 5 never divides: use the model type 't5'"
        )
    return {
        "architectures": [{"t5": "T5", "mt5": "MT5"}[model_type] + "ForConditionalGeneration"],
        "model_type": model_type,
        "is_encoder_decoder": True,
        "vocab_size": student.vocab_size,
        **{key: getattr(student, macro.lower()) for macro, key in _SIZES.items()},
        "feed_forward_proj": _projection(student.mlp_activations),
        "dropout_rate": student.dropout_rate,
        **{key: value for key, (value, _) in _CONSTANTS.items()},
        "tie_word_embeddings": is_scaled,
        "scale_decoder_outputs": is_scaled,
        "use_cache": True,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def _projection(activations: tuple[str, ...]) -> str:
    """feed_forward_proj of MLP_ACTIVATIONS."""
    first, *others = activations
    theirs = {ours: name for name, ours in _ACTIVATIONS.items() if name != "swish"}
    if first not in theirs or others not in ([], ["linear"]):
        raise UserError(
            f"got MLP_ACTIVATIONS = {activations!r}, expected one of {', '.join(sorted(theirs))}, "
            "alone or followed by 'linear': transformers' T5 has no other feed-forward block"
        )
    if not others:
        return theirs[first]
    return "gated-gelu" if first == "gelu" else f"gated-{theirs[first]}"
