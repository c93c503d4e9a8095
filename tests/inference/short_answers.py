"""A student of bytes whose greedy answers are short and differ between rows."""

from __future__ import annotations

import jax
import numpy as np

from distill.config.student import T5Config
from distill.student.params import init_params

CONFIG = T5Config(
    vocab_size=264,
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
)


def make_params() -> dict:
    """Random parameters, with EOS and six letters as the likely tokens."""
    params = init_params(CONFIG, jax.random.key(3))
    kernel = np.array(params["decoder"]["logits_dense"]["kernel"])
    kernel[:, ~np.isin(np.arange(kernel.shape[1]), [1, *range(100, 106)])] *= 0.05
    kernel[:, 1] *= 2
    return params | {"decoder": params["decoder"] | {"logits_dense": {"kernel": kernel}}}
