"""A student as one compiled-ahead program: StableHLO of greedy label decoding, by jax.export.

<output>/
  program.jax_export       (parameters by name, input tokens [B, I]) -> label tokens [B, T]
  parameters.safetensors   float32, named by their paths in the student's tree
  export.json              lengths, prefix, labels, vocabulary, digests: what a caller needs
  vocabulary/              as in the run folder; nothing for bytes
  README.md                the model card

B is symbolic, I and T are fixed. The program holds the decode loop and runs on every platform of
PLATFORMS. Its caller needs jax and flatbuffers, and not this package (docs/export.md).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from jax import export

from distill.common.atomic import atomic_file, write_bytes, write_json, write_text
from distill.common.digests import describe_files
from distill.common.progress import Stage
from distill.config.data import MOST_TOKENS
from distill.config.student import T5Config
from distill.data.vocabularies import Vocabulary
from distill.errors import UserError
from distill.export.model_card import digests_of, render_card
from distill.export.source import CARD, check_output, new_folder
from distill.inference.load import LoadedRun
from distill.student.decoding import greedy
from distill.student.params import param_shapes
from distill.training import assets as run_assets

PROGRAM, PARAMETERS, DESCRIPTION = "program.jax_export", "parameters.safetensors", "export.json"
PLATFORMS = ("cpu", "cuda", "tpu")
FORMAT = 1
_USE = """\
```python
import jax.export

program = jax.export.deserialize(open("program.jax_export", "rb").read())
label_tokens = jax.jit(program.call)(parameters, input_tokens)
```

`parameters` is a dict of the arrays in parameters.safetensors, by name. `input_tokens` is int32
[B, I] with any B; I is `input_length` in export.json. Rows end with the id `eos_id` and are padded
with `pad_id`. `label_tokens` is int32 [B, T], padded alike. The program needs the packages jax, of
the version in export.json or a newer one, and flatbuffers. docs/export.md of distill has a whole
script.
"""


def label_program(config: T5Config, input_length: int, target_length: int) -> export.Exported:
    """Greedy decoding as an exported program; nothing is computed.

    Args:
      config: of the student.
      input_length: tokens of an input row, I.
      target_length: positions to decode at most, T.

    Returns:
      A program of (parameters by their joined names, int32 tokens [B, I]) -> int32 [B, T].
    """

    def answer(params: Mapping[str, jax.Array], tokens_BxI: jax.Array) -> jax.Array:
        tree = traverse_util.unflatten_dict(dict(params), sep="/")
        return greedy(tree, config, tokens_BxI, target_length)

    (rows,) = export.symbolic_shape("b")
    tokens = jax.ShapeDtypeStruct((rows, input_length), jnp.int32)
    program = export.export(jax.jit(answer), platforms=PLATFORMS)
    with _without_source_paths():
        return program(traverse_util.flatten_dict(param_shapes(config), sep="/"), tokens)


@contextlib.contextmanager
def _without_source_paths() -> Iterator[None]:
    """Keeps the paths of this machine's source files out of the programs lowered within it."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def write_stablehlo(
    run: LoadedRun, output: epath.PathLike, input_length: int | None = None
) -> list[str]:
    """Exports a student as a program and its parameters.

    Args:
      run: the student.
      output: the folder to write; it must not exist.
      input_length: tokens of an input row; None takes INPUT_LENGTH.

    Returns:
      The names of the files.

    Raises:
      UserError: `output` exists; a bad length.
    """
    folder = check_output(output)
    spec = run.config.data
    length = spec.input_length if input_length is None else input_length
    if not 2 <= length <= MOST_TOKENS:
        raise UserError(f"got --input_length {length}, expected 2 to {MOST_TOKENS:,}")
    with Stage("exporting the program"):
        program = label_program(run.config.student, length, spec.target_length)
    with new_folder(folder, DESCRIPTION) as scratch:
        write_bytes(scratch / PROGRAM, bytes(program.serialize()))
        _write_parameters(scratch / PARAMETERS, run.params)
        names = [PROGRAM, PARAMETERS, *_write_vocabulary(scratch, run.assets)]
        described = _describe(run, length, run.assets.vocabulary())
        described["jax"] = {
            "version": jax.__version__,
            "calling_convention": program.calling_convention_version,
        }
        described["files"] = describe_files(scratch, names)
        write_json(scratch / DESCRIPTION, described)
        digests = digests_of(scratch, [*names, DESCRIPTION])
        write_text(scratch / CARD, render_card(run, _USE, digests))
    return sorted([*names, DESCRIPTION, CARD])


def _describe(run: LoadedRun, length: int, vocabulary: Vocabulary) -> dict[str, Any]:
    spec, assets = run.config.data, run.assets
    after = spec.label_prefix.strip() if spec.method == "single_task" else ""
    return {
        "format": FORMAT,
        "platforms": list(PLATFORMS),
        "step": run.step,
        "input_length": length,
        "target_length": spec.target_length,
        "label_prefix": spec.label_prefix,
        "answer_after": after,
        "labels": list(assets.labels),
        "eos_mark": assets.eos_mark,
        "input_form": assets.input_form,
        "vocabulary": {
            "kind": assets.kind,
            "file": f"{run_assets.VOCABULARY}/{name}" if (name := assets.file_name) else None,
            "pad_id": vocabulary.pad_id,
            "eos_id": vocabulary.eos_id,
            "unk_id": vocabulary.unk_id,
        },
    }


def _write_parameters(path: epath.Path, params: Mapping[str, Any]) -> None:
    """Writes a tree of arrays as one safetensors file, an array at a time."""
    arrays = traverse_util.flatten_dict(dict(params), sep="/")
    header, start = {}, 0
    for name, array in sorted(arrays.items()):
        end = start + 4 * array.size
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, end]}
        start = end
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    with atomic_file(path, "wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for name in header:
            file.write(np.ascontiguousarray(arrays[name], "<f4").data)


def _write_vocabulary(folder: epath.Path, assets: run_assets.Assets) -> list[str]:
    """Writes the vocabulary's file, if it has one; returns its name in the folder."""
    if not assets.file_name:
        return []
    name = f"{run_assets.VOCABULARY}/{assets.file_name}"
    (folder / name).parent.mkdir()
    write_bytes(folder / name, assets.content())
    return [name]
