"""Odd folders whose names, aliases or index differ, and what is done or said."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from odd_folder import (
    DECODER,
    ENCODER,
    LM_HEAD,
    NORM,
    SHARED,
    Folder,
    embedding,
    output,
    write_file,
)

from distill.errors import UserError
from distill.huggingface.config_json import read_config
from distill.huggingface.read import read_params


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
