"""Random models of the families of gin/models, made and run by transformers itself.

Needs torch and transformers, of version 4 or 5.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers

IS_VERSION_5 = int(transformers.__version__.split(".")[0]) >= 5
VOCAB_SIZE = 48
# d_model is neither num_heads * d_kv nor d_ff, so that no two axes can be mixed up unnoticed.
SIZES = {
    "d_model": 8,
    "d_kv": 3,
    "num_heads": 2,
    "d_ff": 10,
    "num_layers": 2,
    "num_decoder_layers": 2,
}


@dataclasses.dataclass(frozen=True)
class Family:
    """How a family's models are made.

    Attributes:
      settings: of the configuration, besides SIZES.
      own_output: whether the output matrix is not the embedding.
      is_mt5: whether the model type is mt5.
      shard: max_shard_size of save_pretrained.
      dtype: of the file.
    """

    settings: dict[str, Any]
    own_output: bool = True
    is_mt5: bool = False
    shard: str = "50GB"
    dtype: str = "float32"


_GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
FAMILIES = {
    "t5": Family({"feed_forward_proj": "relu"}, own_output=False),
    "t5_1_1": Family(_GATED),
    "flan_t5": Family(_GATED, shard="4KB", dtype="bfloat16"),
    "shared_not_scaled": Family(_GATED, own_output=False),
    "mt5": Family(_GATED, is_mt5=True),
    "byt5": Family(
        _GATED | {"num_layers": 3, "num_decoder_layers": 1, "tokenizer_class": "ByT5Tokenizer"}
    ),
    "ul2": Family(_GATED | {"feed_forward_proj": "gated-silu", "d_kv": 5}),
}


def make(
    name: str,
    folder: pathlib.Path,
    seed: int = 0,
    spread: float = 1.0,
    noise: float = 1.0,
    **sizes: int,
) -> Any:
    """Writes the folder of a random model of a family, and gives the model that transformers loads.

    Every parameter is random, norms too, so that none can be mixed up unnoticed, and attention and
    logits are as uneven as in a trained model.

    Args:
      name: of the family.
      folder: to write.
      seed: of the numbers.
      spread: standard deviation of an output matrix of its own.
      noise: share of the random numbers that are added to what transformers initializes. With 1.0
        and a spread of 1.0, the rounding of float32 alone moves logits of up to 25 by up to 1.5e-4
        (test_float64.py).
      sizes: settings of the configuration instead of SIZES.
    """
    family = FAMILIES[name]
    settings = SIZES | {"vocab_size": VOCAB_SIZE, "decoder_start_token_id": 0} | family.settings
    kind = "MT5" if family.is_mt5 else "T5"
    config = getattr(transformers, f"{kind}Config")(**settings | sizes)
    torch.manual_seed(seed)
    cls = getattr(transformers, f"{kind}ForConditionalGeneration")
    model = cls(config).eval()
    output = spread * torch.randn(config.vocab_size, config.d_model)
    model.lm_head.weight = torch.nn.Parameter(output) if family.own_output else model.shared.weight
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            scale = 0.3 if "layer_norm" in key else 1.0 if "relative" in key else 0.2
            parameter.add_(noise * scale * torch.randn_like(parameter))
        model.lm_head.weight[1] *= 2  # so that sequences end now and then
        if "scale" in name:
            model.shared.weight.mul_(0.5)
    model.to(getattr(torch, family.dtype)).save_pretrained(folder, max_shard_size=family.shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    loaded = load(folder, cls)
    if not family.own_output:
        # Version 4 leaves the output matrix of "shared_not_scaled" random, as its file has none.
        loaded.lm_head.weight = loaded.shared.weight
    return loaded


def load(folder: pathlib.Path, cls: Any = None) -> Any:
    """The model of a folder, float32."""
    kind = json.loads((folder / "config.json").read_text())["model_type"].upper()
    cls = cls or getattr(transformers, f"{kind}ForConditionalGeneration")
    key = "dtype" if IS_VERSION_5 else "torch_dtype"
    return cls.from_pretrained(folder, **{key: torch.float32}).eval()


def batch(seed: int, rows: int, inputs: int, targets: int, vocab_size: int) -> dict[str, Any]:
    """Random tokens as the student takes them; the last row's input is half padding."""
    rng = np.random.default_rng(seed)
    encoder = rng.integers(2, vocab_size, (rows, inputs), np.int32)
    encoder[-1, inputs // 2 :] = 0
    target = rng.integers(2, vocab_size, (rows, targets), np.int32)
    decoder = np.concatenate([np.zeros((rows, 1), np.int32), target[:, :-1]], axis=1)
    return {
        "encoder_input_tokens": encoder,
        "decoder_input_tokens": decoder,
        "decoder_target_tokens": target,
    }


def logits(model: Any, tokens: dict[str, Any]) -> np.ndarray:
    """Logits [B, T, V] of a batch."""
    encoder = torch.tensor(tokens["encoder_input_tokens"]).long()
    decoder = torch.tensor(tokens["decoder_input_tokens"]).long()
    mask = (encoder > 0).long()
    with torch.no_grad():
        return model(input_ids=encoder, attention_mask=mask, decoder_input_ids=decoder)[0].numpy()


def logits64(model: Any, tokens: dict[str, Any]) -> np.ndarray:
    """Logits [B, T, V] of a float32 model, computed in float64."""
    with _norms_and_softmaxes_in_float64():
        return logits(copy.deepcopy(model).double(), tokens)


@contextlib.contextmanager
def _norms_and_softmaxes_in_float64() -> Iterator[None]:
    """transformers computes the statistics of norms in float32, version 4 softmaxes too."""
    as_float32 = torch.Tensor.float

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))

    def keep(self: torch.Tensor) -> torch.Tensor:
        return self if self.dtype == torch.float64 else as_float32(self)

    models = transformers.models
    with (
        mock.patch.object(models.t5.modeling_t5.T5LayerNorm, "forward", norm),
        mock.patch.object(models.mt5.modeling_mt5.MT5LayerNorm, "forward", norm),
        mock.patch.object(torch.Tensor, "float", keep),
    ):
        yield


def generate(model: Any, encoder: np.ndarray, max_length: int, beams: int) -> np.ndarray:
    """Tokens [B, max_length] without the start token; the score of a beam is the log-probability.

    That is, no length penalty, and a search that goes on as long as a better one may come.
    """
    tokens = torch.tensor(encoder).long()
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": max_length}
    if beams > 1:
        settings |= {"length_penalty": 0.0, "early_stopping": "never"}
    settings["do_sample"] = False
    found = model.generate(input_ids=tokens, attention_mask=(tokens > 0).long(), **settings)
    found = found[:, 1:].numpy().astype(np.int32)
    after_end = np.cumsum(found == 1, axis=1) - (found == 1) > 0
    found = np.where(after_end, 0, found)  # beam search fills with EOS where the pad id is 0
    return np.pad(found, ((0, 0), (0, max_length - found.shape[1])))
