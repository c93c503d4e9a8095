"""A student as a Hugging Face folder: what transformers, and servers that read its folders, load.

<output>/
  config.json, generation_config.json
  model.safetensors     float32; above 5 GB shards and model.safetensors.index.json
  tokenizer files       see distill.export.tokenizer_files
  README.md             the model card

Needs neither torch nor transformers.
"""

from __future__ import annotations

from typing import Any

from etils import epath

from distill.common.atomic import write_json, write_text
from distill.common.progress import Stage
from distill.export.model_card import digests_of, prefix_line, render_card
from distill.export.source import CARD, check_output, new_folder
from distill.export.tokenizer_files import write_tokenizer
from distill.huggingface.config_json import FILE, config_dict
from distill.huggingface.write import SHARD_BYTES, write_params
from distill.inference.load import LoadedRun

GENERATION = "generation_config.json"
_METADATA = (
    "library_name: transformers",
    "pipeline_tag: text2text-generation",
    "tags: [t5, distilling-step-by-step]",
)
_USE = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
texts = [{prefix} + text for text in ["..."]]
inputs = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
answers = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
labels = [answer.strip() for answer in answers]
```
"""


def write_huggingface(
    run: LoadedRun, output: epath.PathLike, shard_bytes: int = SHARD_BYTES
) -> list[str]:
    """Exports a student as a folder that `from_pretrained` loads.

    Args:
      run: the student.
      output: the folder to write; it must not exist.
      shard_bytes: largest size of a file of parameters.

    Returns:
      The names of the files.

    Raises:
      UserError: `output` exists; activations or words that Hugging Face's T5 does not have.
    """
    folder = check_output(output)
    config = config_dict(run.config.student)  # refuses before anything is written
    with new_folder(folder, FILE) as scratch:
        names = write_model(run, scratch, config, shard_bytes)
        card = render_card(run, _use(run), digests_of(scratch, names), _METADATA)
        write_text(scratch / CARD, card)
    return sorted([*names, CARD])


def write_model(
    run: LoadedRun,
    folder: epath.Path,
    config: dict[str, object],
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Writes all files but the card; see `write_huggingface`.

    Args:
      run: the student.
      folder: where the files go; it exists.
      config: the content of config.json.
      shard_bytes: largest size of a file of parameters.

    Returns:
      The names of the files.
    """
    student, spec = run.config.student, run.config.data
    tokenizer = write_tokenizer(
        folder,
        run.assets.vocabulary(),
        student.vocab_size,
        run.assets.content(),
        spec.input_length,
    )
    with Stage("writing the parameters"):
        files = write_params(run.params, student, folder, shard_bytes=shard_bytes)
    write_json(folder / GENERATION, _generation(run))
    write_json(folder / FILE, config)
    return [*(path.name for path in files), GENERATION, FILE, *tokenizer]


def _generation(run: LoadedRun) -> dict[str, Any]:
    """generation_config.json: greedy decoding of at most TARGET_LENGTH tokens, EOS counted."""
    student = run.config.student
    return {
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "max_new_tokens": run.config.data.target_length,
        "num_beams": 1,
        "do_sample": False,
        # transformers sizes its cache by the encoder: a deeper decoder fails with it (5.24, 4.57).
        "use_cache": student.num_decoder_layers <= student.num_encoder_layers,
    }


def _use(run: LoadedRun) -> str:
    return _USE.replace("{prefix}", prefix_line(run))
