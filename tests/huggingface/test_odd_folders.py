"""Every odd file that is known, and what is done or said."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from distill.config.student import T5Config
from distill.errors import UserError
from distill.huggingface.config_json import config_dict, read_config
from distill.huggingface.read import read_params
from distill.huggingface.write import write_params

V5 = pathlib.Path(__file__).parents[1] / "golden" / "hf" / "v5"
SHARED, LM_HEAD = "shared.weight", "lm_head.weight"
ENCODER, DECODER = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
NORM = "decoder.block.1.layer.2.layer_norm.weight"
WIDTHS = {"F32": np.float32, "F16": np.float16}


def tensors_of(path):
    """The arrays of one file, read without the code under test; float32 alone."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(content[end:][slice(*entry["data_offsets"])], WIDTHS[entry["dtype"]])
        .reshape(entry["shape"])
        .copy()
        for name, entry in header.items()
    }


def write_file(path, tensors, **entries):
    """A file of arrays, whose header's entries may say something else."""
    header, content = {}, b""
    for name, array in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "int8": "I8"}[array.dtype.name]
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header | entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


class Folder:
    """A copy of a golden folder to change."""

    def __init__(self, path, name):
        self.path = path
        shutil.copytree(V5 / name, path)
        self.file = path / "model.safetensors"
        self.tensors = tensors_of(self.file)
        self.config = json.loads((path / "config.json").read_text())

    def write(self, **entries):
        write_file(self.file, self.tensors, **entries)
        (self.path / "config.json").write_text(json.dumps(self.config))

    def read(self):
        config = read_config(self.path)
        return config, read_params(self.path, config.student)

    def message(self, **entries):
        self.write(**entries)
        with pytest.raises(UserError) as caught:
            self.read()
        return str(caught.value)

    def as_config_4(self, is_tied):
        """config.json as version 4 writes it."""
        self.config = {k: v for k, v in self.config.items() if k != "scale_decoder_outputs"}
        self.config |= {"transformers_version": "4.57.6", "tie_word_embeddings": is_tied}


@pytest.fixture
def untied(tmp_path):
    return Folder(tmp_path / "hf", "t5_1_1")


@pytest.fixture
def tied(tmp_path):
    return Folder(tmp_path / "hf", "t5")


def embedding(params):
    return params["token_embedder"]["embedding"]


def output(params):
    return params["decoder"]["logits_dense"]["kernel"].T


@pytest.mark.parametrize("kept", [(DECODER,), (ENCODER,), (ENCODER, DECODER)])
def test_the_embedding_under_another_name_is_not_taken_from_lm_head(kept, untied):
    """Early releases of transformers 5 filled the encoder's embedding from lm_head."""
    shared = untied.tensors.pop(SHARED)
    untied.tensors |= dict.fromkeys(kept, shared)
    untied.write()
    config, params = untied.read()
    assert config.embedding == kept[0] and config.output == LM_HEAD
    np.testing.assert_array_equal(embedding(params), shared)
    np.testing.assert_array_equal(output(params), untied.tensors[LM_HEAD])
    assert not np.array_equal(shared, untied.tensors[LM_HEAD])


def test_all_names_of_one_embedding_are_one(tied):
    names = (ENCODER, DECODER, LM_HEAD)
    tied.tensors |= dict.fromkeys(names, tied.tensors[SHARED])
    tied.write()
    config, params = tied.read()
    assert config.macros["TIE_EMBEDDINGS"] is True and config.macros["SCALE_TIED_LOGITS"] is True
    np.testing.assert_array_equal(embedding(params), tied.tensors[SHARED])
    tied.tensors[DECODER] = tied.tensors[SHARED] + 1
    message = tied.message()
    assert f"the tensors {SHARED} and {DECODER} differ, expected one embedding" in message


def test_only_lm_head_is_the_embedding_of_a_model_that_shares_it(tied, tmp_path):
    shared = tied.tensors[LM_HEAD] = tied.tensors.pop(SHARED)
    tied.write()
    config, params = tied.read()
    assert config.embedding == LM_HEAD and config.output is None
    np.testing.assert_array_equal(embedding(params), shared)
    alone = Folder(tmp_path / "other", "t5_1_1")
    del alone.tensors[SHARED]
    message = alone.message()
    assert "has no embedding" in message and f"found only {LM_HEAD}, a matrix of its own" in message
    del alone.tensors[LM_HEAD]
    assert "found none" in alone.message()


def shard(folder, places, names_of_index=()):
    """Turns one file into shards, `places` says which tensor goes to the second, and an index."""
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    parts = [{}, {}]
    for name, array in folder.tensors.items():
        parts[places(name)][name] = array
    for file, part in zip(files, parts, strict=True):
        write_file(folder.path / file, part)
    index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    index |= dict.fromkeys(names_of_index, files[0])
    folder.file.unlink(missing_ok=True)
    path = folder.path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder.path / "config.json").write_text(json.dumps(folder.config))
    return index


def test_an_index_may_name_aliases_that_no_shard_has(untied):
    whole = read_params(untied.path, read_config(untied.path).student)
    shard(untied, lambda name: name.startswith("decoder"), (ENCODER, DECODER))
    _, params = untied.read()
    jax.tree.map(np.testing.assert_array_equal, whole, params)


def test_an_index_may_name_the_output_of_a_model_that_shares_it(tied):
    shard(tied, lambda name: 0, (LM_HEAD, ENCODER))
    config, _ = tied.read()
    assert config.output is None


def test_an_index_that_names_a_lost_tensor_is_refused(untied):
    head = untied.tensors.pop(LM_HEAD)
    shard(untied, lambda name: 1, (LM_HEAD,))
    with pytest.raises(UserError, match=f"says that {LM_HEAD} is in model-00001-of-00002.safe"):
        untied.read()
    untied.tensors[LM_HEAD] = head
    del untied.tensors[NORM]
    shard(untied, lambda name: 1, (NORM,))
    with pytest.raises(UserError, match=f"says that the tensor {NORM} is in .*does not contain it"):
        untied.read()


def test_an_index_of_missing_or_strange_files_is_refused(untied):
    path = untied.path / "model.safetensors.index.json"
    shard(untied, lambda name: name.startswith("decoder"))
    (untied.path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"is in model-00002.*, which does not exist"):
        untied.read()
    for content, message in (
        ({"weight_map": {SHARED: "../model.safetensors"}}, "expected a file name"),
        ({"weight_map": {SHARED: 3}}, "expected a file name"),
        ({"weight_map": []}, "has no 'weight_map'"),
        ([], "has no 'weight_map'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            untied.read()
    path.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        untied.read()


def test_a_tensor_in_two_shards_is_refused(untied):
    shard(untied, lambda name: name.startswith("decoder"))
    write_file(untied.path / "model-00002-of-00002.safetensors", untied.tensors)
    with pytest.raises(UserError, match=r"both contain the tensor .* expected each tensor once"):
        untied.read()


@pytest.mark.parametrize(
    ("flags", "is_scaled"),
    [
        ({"tie_word_embeddings": False}, False),  # version 4
        ({"tie_word_embeddings": True}, True),
        ({}, True),
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),  # version 5
        ({"tie_word_embeddings": True, "scale_decoder_outputs": True}, True),
    ],
)
def test_tie_word_embeddings_says_whether_logits_are_divided(flags, is_scaled, tied):
    """And not whether the matrix is shared, which the tensors say."""
    for key in ("tie_word_embeddings", "scale_decoder_outputs"):
        tied.config.pop(key, None)
    tied.config |= flags
    tied.write()
    macros = read_config(tied.path).macros
    assert macros["TIE_EMBEDDINGS"] is True and macros["SCALE_TIED_LOGITS"] is is_scaled
    tied.config["tie_word_embeddings"] = "false"
    assert "got tie_word_embeddings = 'false', expected true or false" in tied.message()


def test_lm_head_of_its_own_is_used_where_logits_are_not_divided(untied):
    for is_4 in (False, True):
        if is_4:
            untied.as_config_4(is_tied=False)
        untied.write()
        config, params = untied.read()
        assert config.macros["TIE_EMBEDDINGS"] is False and config.output == LM_HEAD
        np.testing.assert_array_equal(output(params), untied.tensors[LM_HEAD])


def test_lm_head_of_its_own_is_refused_where_logits_are_divided(untied):
    """Version 4 of transformers ignores it there, and version 5 uses it and divides."""
    untied.as_config_4(is_tied=True)
    message = untied.message()
    assert f"{LM_HEAD} differs from {SHARED}" in message
    assert 'Set "tie_word_embeddings": false' in message


def test_mt5_divides_only_by_version_4(tmp_path):
    folder = Folder(tmp_path / "hf", "mt5")
    folder.write()
    assert folder.config["tie_word_embeddings"] is True  # as version 5 writes it
    assert folder.read()[0].output == LM_HEAD
    del folder.tensors[LM_HEAD]
    for version, is_tied, is_scaled in (
        ("5.24.0", True, False),
        ("4.57.6", True, True),
        ("4.57.6", False, False),
    ):
        folder.as_config_4(is_tied)
        folder.config["transformers_version"] = version
        folder.write()
        assert folder.read()[0].macros["SCALE_TIED_LOGITS"] is is_scaled, version


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
