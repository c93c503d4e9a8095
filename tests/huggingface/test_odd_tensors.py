"""Odd files: sizes, types, damage, unknown models, and what is done or said."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from odd_folder import (
    LM_HEAD,
    NORM,
    SHARED,
    embedding,
)

from distill.config.student import T5Config
from distill.errors import UserError
from distill.huggingface.config_json import config_dict, read_config
from distill.huggingface.read import read_params
from distill.huggingface.write import write_params


@pytest.mark.parametrize("rows", [48, 45, 32])
def test_the_vocabulary_may_be_padded_or_not(rows, untied):
    for name in (SHARED, LM_HEAD):
        untied.tensors[name] = untied.tensors[name][:rows]
    untied.config["vocab_size"] = rows
    untied.write()
    config, params = untied.read()
    assert config.macros["VOCAB_SIZE"] == rows and embedding(params).shape[0] == rows
    untied.config["vocab_size"] = 50
    assert f"has vocab_size 50, but {SHARED} has {rows} rows" in untied.message()
    untied.config["vocab_size"] = rows
    untied.tensors[LM_HEAD] = untied.tensors[LM_HEAD][:-1]
    assert f"{LM_HEAD} has shape [{rows - 1}, 8], expected [{rows}, 8]" in untied.message()


def test_half_precision_is_read(tied):
    exact = dict(tied.tensors)
    tied.tensors = {name: array.astype(np.float16) for name, array in exact.items()}
    tied.write()
    _, params = tied.read()
    expected = tied.tensors[SHARED].astype(np.float32)
    np.testing.assert_array_equal(embedding(params), expected)


def test_a_pickle_is_refused_with_the_command_that_converts_it(untied):
    untied.file.rename(untied.path / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        untied.read()
    message = str(caught.value)
    assert "pytorch_model.bin alone, a pickle, which can run code when it is read" in message
    assert f"A.from_pretrained('{untied.path}').save_pretrained(" in message
    (untied.path / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"has no model.safetensors .*: it contains config.json"):
        untied.read()
    with pytest.raises(UserError, match="does not exist, expected a folder of Hugging Face's"):
        read_config(untied.path / "none")


def test_missing_and_extra_tensors_are_named(untied):
    kept = untied.tensors.pop(NORM)
    message = untied.message()
    assert f"has no tensor {NORM}" in message and "closest: decoder.block.0.layer.2" in message
    untied.tensors |= {NORM: kept, "decoder.block.2.layer.0.layer_norm.weight": kept}
    message = untied.message()
    assert "the tensor decoder.block.2.layer.0.layer_norm.weight is not one of a T5" in message
    assert "closest: decoder.block.0.layer.0.layer_norm.weight" in message


def test_the_bias_of_old_checkpoints_that_nothing_reads_is_left_out(tied):
    before = tied.read()[1]
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tied.tensors[name] = np.zeros((32, 2), np.float32)
    tied.write()
    jax.tree.map(np.testing.assert_array_equal, before, tied.read()[1])


def test_misshapen_tensors_are_named(untied):
    query = "encoder.block.0.layer.0.SelfAttention.q.weight"
    untied.tensors[query] = untied.tensors[query].T.copy()
    assert f"{query} has shape [8, 6], expected [6, 8] by config.json" in untied.message()
    untied.tensors[query] = untied.tensors[query].reshape(-1)
    assert f"{query} has shape [48], expected [6, 8]" in untied.message()


@pytest.mark.parametrize(("number", "what"), [(np.nan, "NaN"), (np.inf, "infinite numbers")])
def test_tensors_that_are_not_finite_are_named(number, what, untied):
    untied.tensors[NORM][3] = number
    assert f"model.safetensors: the tensor {NORM} contains {what}" in untied.message()


def test_quantized_tensors_are_refused(untied):
    untied.tensors[NORM] = untied.tensors[NORM].astype(np.int8)
    message = untied.message()
    assert f"{NORM} has the type I8, expected one of F32, F16, BF16" in message


def test_truncated_files_are_named(untied):
    content = untied.file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    for length, message in (
        (len(content) - 1, r"is truncated: it has 1\d,\d+ bytes, and the tensor \S+ ends at byte"),
        (8 + header - 1, "it ends within its header"),
        (7, "not the length of a header"),
        (0, "not the length of a header"),
    ):
        untied.file.write_bytes(content[:length])
        with pytest.raises(UserError, match=message):
            untied.read()
    untied.file.write_bytes(b"\x80\x02}q\x00" + content)  # what a pickle begins with
    with pytest.raises(UserError, match="not the length of a header"):
        untied.read()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [8], "data_offsets": [0, 8]}, "of shape .8. has 8 bytes"),
        ({"dtype": "F32", "shape": [-8], "data_offsets": [0, 32]}, "entry of x is"),
        ({"dtype": "F32", "shape": [8], "data_offsets": [32, 0]}, "entry of x is"),
        ({"dtype": "F32", "shape": [1e300], "data_offsets": [0, 32]}, "entry of x is"),
        ({"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}, "entry of x is"),
        ({"dtype": "F32", "shape": 8}, "entry of x is"),
        ([], "entry of x is"),
    ],
)
def test_headers_that_say_nonsense_are_refused(entry, message, untied):
    assert message.replace(".", "") in untied.message(x=entry).replace("[", "").replace("]", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "umt5"}, "unknown model type 'umt5' (set by model_type in"),
        ({"model_type": "gpt2"}, "expected one of mt5, t5"),
        ({"model_type": None}, "unknown model type 'None'"),
        ({"d_kv": None}, "got d_kv = None, expected an integer above 0"),
        ({"num_layers": 0}, "got num_layers = 0"),
        ({"feed_forward_proj": "gated-quick_gelu", "dense_act_fn": None}, "'quick_gelu'"),
        ({"feed_forward_proj": "double-relu", "dense_act_fn": None}, "'double-relu'"),
        ({"dense_act_fn": "gelu"}, "with the activation 'gelu'"),
        ({"relative_attention_num_buckets": 64}, "relative_attention_num_buckets = 64, expected"),
        ({"relative_attention_max_distance": 256}, "which the student has as a constant"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon = 1e-05, expected 1e-06"),
        ({"pad_token_id": 1}, "got pad_token_id = 1, expected 0"),
        ({"eos_token_id": 2}, "got eos_token_id = 2, expected 1"),
    ],
)
def test_models_that_the_student_cannot_be_are_refused(change, message, untied):
    untied.config |= change
    assert message in untied.message()


def test_what_config_json_may_leave_out(tied):
    kept = ("model_type", "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "vocab_size")
    tied.config = {key: tied.config[key] for key in kept}
    tied.write()
    config, _ = tied.read()
    assert config.macros["NUM_DECODER_LAYERS"] == 2 and config.family == "t5"


def test_config_json_that_does_not_parse_is_named(untied):
    for content, message in (("{", "not JSON"), ("[]", "got a JSON list, expected an object")):
        (untied.path / "config.json").write_text(content)
        with pytest.raises(UserError, match=rf"config\.json: {message}"):
            untied.read()
    (untied.path / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        untied.read()


def test_another_student_is_refused_with_what_differs(untied):
    student = T5Config(**{k.lower(): v for k, v in read_config(untied.path).macros.items()})
    other = dataclasses.replace(student, num_heads=1, mlp_activations=("relu",))
    with pytest.raises(UserError) as caught:
        read_params(untied.path, other)
    message = str(caught.value)
    assert "got NUM_HEADS = 1, expected 2; MLP_ACTIVATIONS = ('relu',), expected" in message
    idle = dataclasses.replace(student, scale_tied_logits=False)  # nothing is tied
    jax.tree.map(
        np.testing.assert_array_equal,
        read_params(untied.path, idle),
        read_params(untied.path, student),
    )


def test_networks_that_transformers_does_not_have_are_not_written(tmp_path):
    sizes = dict.fromkeys(("num_heads", "num_encoder_layers", "num_decoder_layers"), 1)
    sizes |= {"vocab_size": 16, "embed_dim": 4, "head_dim": 4, "mlp_dim": 4}
    for activations in (("gelu", "gelu"), ("linear",), ("gelu", "relu", "linear")):
        with pytest.raises(UserError, match="MLP_ACTIVATIONS"):
            config_dict(T5Config(**sizes, mlp_activations=activations))
    with pytest.raises(UserError, match="use the model type 't5'"):
        config_dict(T5Config(**sizes, tie_embeddings=True), "mt5")
    with pytest.raises(UserError, match="unknown type 'int8'"):
        write_params({}, T5Config(**sizes), tmp_path, dtype="int8")
