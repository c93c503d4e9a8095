"""A student as a CTranslate2 folder, by that library's own converter, compared with the student.

<output>/
  model.bin, config.json, shared_vocabulary.json   CTranslate2's
  tokenizer files                                  see distill.export.tokenizer_files
  README.md                                        the model card, with the comparison

The converter reads a Hugging Face folder, which is written beside the output and removed. It takes
`tie_word_embeddings` for the sign that logits are divided by sqrt(d_model), and version 5 of
transformers sets that for every T5. Students whose logits are not divided would then come out with
a scale that greedy decoding does not show and that beam search and probabilities do. The scale is
therefore set here.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from etils import epath

from distill.common.atomic import write_text
from distill.common.native_output import without_notes
from distill.common.progress import Stage
from distill.config.student import T5Config
from distill.data.examples import Example
from distill.errors import UserError, unknown
from distill.export.comparison import Comparison, compare
from distill.export.huggingface import write_model
from distill.export.model_card import digests_of, prefix_line, render_card
from distill.export.source import CARD, check_output, new_folder
from distill.export.tokenizer_files import CONFIG, PIECES, SPECIAL, TOKENIZER
from distill.huggingface.config_json import config_dict
from distill.inference.load import LoadedRun

MODEL, VOCABULARY = "model.bin", "shared_vocabulary.json"
QUANTIZATIONS = ("float32", "int8")
_PACKAGES = ("ctranslate2", "torch", "transformers")
_ACTIVATIONS = ("gelu", "relu", "silu")
_COPIED = (CONFIG, SPECIAL, TOKENIZER, PIECES)
_USE = """\
```python
import ctranslate2
from transformers import AutoTokenizer

translator = ctranslate2.Translator("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
texts = [{prefix} + text for text in ["..."]]
ids = tokenizer(texts, truncation=True).input_ids
inputs = [tokenizer.convert_ids_to_tokens(row) for row in ids]
results = translator.translate_batch(
    inputs, beam_size=1, max_decoding_length={length}, min_decoding_length=0, max_input_length=0
)
tokens = [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]
answers = tokenizer.batch_decode(tokens, skip_special_tokens=True)
labels = [answer.strip() for answer in answers]
```

Weights: {quantization}. {comparison}
"""


def check_packages() -> None:
    """Refuses to start without the packages that the converter imports.

    Raises:
      UserError: names them, with the command that installs them.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--to=ctranslate2 needs {' and '.join(missing)}: "
            "pip install 'distill-step-by-step[ctranslate2]' "
            f"(or pip install {' '.join(missing)})"
        )


def write_ctranslate2(
    run: LoadedRun,
    output: epath.PathLike,
    quantization: str = "float32",
    rows: Sequence[Example] = (),
) -> tuple[list[str], Comparison | None]:
    """Exports a student as a folder that `ctranslate2.Translator` loads.

    Args:
      run: the student.
      output: the folder to write; it must not exist.
      quantization: one of QUANTIZATIONS.
      rows: the answers to these are compared with the student's; () compares nothing.

    Returns:
      The names of the files, and what the comparison found; None without rows.

    Raises:
      UserError: `output` exists; a package is missing; activations that CTranslate2 lacks.
    """
    check_packages()
    folder = check_output(output)
    student = run.config.student
    if quantization not in QUANTIZATIONS:
        raise unknown("quantization", quantization, QUANTIZATIONS, "--quantization")
    if student.mlp_activations[0] not in _ACTIVATIONS:
        raise UserError(
            f"got MLP_ACTIVATIONS = {student.mlp_activations!r}, expected one of "
            f"{', '.join(_ACTIVATIONS)}: CTranslate2 has no other activation for T5"
        )
    config = config_dict(student)
    with new_folder(folder, MODEL) as scratch:
        source = scratch / "huggingface"
        source.mkdir()
        names = write_model(run, source, config)
        copied = [name for name in names if name in _COPIED]
        with Stage("converting to CTranslate2"), without_notes():
            _convert(source, scratch / "model", student, quantization, copied)
        source.rmtree()
        for path in pathlib.Path(scratch / "model").iterdir():
            shutil.move(path, scratch)
        (scratch / "model").rmdir()
        found = compare(run, _Translator(scratch), rows) if rows else None
        written = sorted(path.name for path in scratch.iterdir())
        use = _use(run, quantization, found)
        write_text(scratch / CARD, render_card(run, use, digests_of(scratch, written)))
    return sorted([*written, CARD]), found


def _convert(
    source: epath.Path,
    target: epath.Path,
    student: T5Config,
    quantization: str,
    copied: Sequence[str],
) -> None:
    """Converts a Hugging Face folder, with the scale of the logits that the student has."""
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.specs.model_spec import OPTIONAL
    from transformers.utils import logging

    is_scaled = student.tie_embeddings and student.scale_tied_logits

    class Converter(TransformersConverter):
        def _load(self) -> Any:
            spec = super()._load()
            spec.decoder.scale_outputs = student.embed_dim**-0.5 if is_scaled else OPTIONAL
            return spec

    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        converter = Converter(str(source), copy_files=list(copied))
        converter.convert(str(target), quantization=quantization)
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()


class _Translator:
    """A converted folder, by ids; see `comparison.Answerer`."""

    def __init__(self, folder: epath.Path) -> None:
        import ctranslate2

        self._translator = ctranslate2.Translator(str(folder), device="cpu")
        self._names = json.loads((folder / VOCABULARY).read_bytes())
        self._ids = {name: index for index, name in enumerate(self._names)}

    def answers(self, inputs: Sequence[Sequence[int]], length: int) -> list[list[int]]:
        results = self._translator.translate_batch(
            [self._of_ids(ids) for ids in inputs],
            beam_size=1,
            max_decoding_length=length,
            min_decoding_length=0,
            max_input_length=0,
        )
        return [[self._ids[name] for name in result.hypotheses[0]] for result in results]

    def scores(
        self, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> list[float]:
        results = self._translator.score_batch(
            [self._of_ids(ids) for ids in inputs],
            [self._of_ids(ids) for ids in targets],  # it adds EOS
            max_input_length=0,
        )
        return [float(sum(result.log_probs)) for result in results]

    def _of_ids(self, ids: Sequence[int]) -> list[str]:
        return [self._names[id_] for id_ in ids]


def _use(run: LoadedRun, quantization: str, found: Comparison | None) -> str:
    told = "Its answers were not compared with the student's." if found is None else str(found)
    text = _USE.replace("{prefix}", prefix_line(run)).replace("{quantization}", quantization)
    return text.replace("{length}", str(run.config.data.target_length)).replace(
        "{comparison}", told
    )
