"""T5Config: every wrong value names its macro; the module does not load jax."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distill.config.student import T5Config
from distill.errors import UserError

SIZES = {
    "vocab_size": 272,
    "embed_dim": 48,
    "num_heads": 4,
    "head_dim": 12,
    "mlp_dim": 96,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, 0) for field in SIZES),
        ("embed_dim", 48.0),
        ("num_heads", True),
        ("vocab_size", 1),
        ("dropout_rate", 1.0),
        ("dropout_rate", -0.1),
        ("dropout_rate", "0.1"),
        ("mlp_activations", ()),
        ("mlp_activations", "gelu"),
        ("mlp_activations", ("gelu", "geluu")),
        ("tie_embeddings", 1),
        ("embed_init", 0.0),
        ("embed_init", float("nan")),
        ("direction_init", -0.5),
        ("direction_init", float("inf")),
        ("direction_init", "1"),
        ("dtype", "float16"),
    ],
)
def test_wrong_values_name_got_expected_and_macro(field, value):
    with pytest.raises(UserError) as error:
        T5Config(**SIZES | {field: value})
    message = str(error.value)
    assert f"got {field.upper()} = {value!r}, expected " in message
    assert f"--gin.{field.upper()}=..." in message


def test_equal_settings_are_one_jit_key():
    config = T5Config(**SIZES, mlp_activations=["gelu", "linear"])
    assert config == T5Config(**SIZES) and hash(config) == hash(T5Config(**SIZES))
    assert config.joined_dim == 48


def test_the_module_does_not_import_jax():
    code = "import sys, distill.config.student; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
