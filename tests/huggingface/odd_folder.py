"""A folder of Hugging Face's that tests change, and its files written by hand."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest

from distill.errors import UserError
from distill.huggingface.config_json import read_config
from distill.huggingface.read import read_params

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


def embedding(params):
    return params["token_embedder"]["embedding"]


def output(params):
    return params["decoder"]["logits_dense"]["kernel"].T
