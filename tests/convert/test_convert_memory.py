"""Converting needs the memory of one array, not that of the model."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from test_convert_hf import FOLDER

from distill.config import resolve
from distill.huggingface.config_json import config_dict
from distill.huggingface.write import write_params

GIB = 2**30
# Runs the command line, then prints the peak of its resident memory.
MEASURED = """
import resource, sys
from distill import cli
code = cli.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


def peak(*arguments, limit=None):
    """Bytes of a command's peak, which may not take more than `limit` of address space."""

    def cap():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=cap)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def write_folder(student, folder, dtype, shard_bytes=10**8):
    """A Hugging Face folder of random parameters; the number of shards."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = write_params(
        lambda parameter: rng.standard_normal(parameter.shape, np.float32),
        student,
        folder,
        dtype,
        shard_bytes=shard_bytes,
    )
    (folder / "config.json").write_text(json.dumps(config_dict(student)))
    shutil.copy(FOLDER / "spiece.model", folder)
    return len(files)


@pytest.mark.slow
def test_a_base_model_takes_less_memory_than_its_parameters(tmp_path):
    """248 million parameters, 0.92 GiB in float32, in bfloat16 shards."""
    names = ["tickets_finetune", "gin/models/t5_1_1.gin", "gin/sizes/base.gin"]
    student = resolve.resolve(names, ("VOCAB_SIZE=32128",)).run.student
    folder = tmp_path / "hf"
    assert write_folder(student, folder, "bfloat16") > 4
    arguments = ("convert", "--from=hf", f"--checkpoint={folder}")
    idle = peak("convert", "--from=hf", f"--checkpoint={FOLDER}", f"--run_dir={tmp_path}/small")
    found = peak(*arguments, f"--run_dir={tmp_path}/run", limit=8 * GIB)
    # The largest array has 0.09 GiB; it is there once, and in parts as read, encoded, compressed.
    assert found < idle + 0.5 * GIB, (found, idle)


@pytest.mark.slow
def test_to_t5x_and_back_with_the_optimizer_takes_less_memory_than_the_parameters(tmp_path):
    """Width and vocabulary of T5 v1.1 Base with 4 layers: 0.31 GiB, with AdamW's moments 0.92."""
    layers = ("NUM_ENCODER_LAYERS=2", "NUM_DECODER_LAYERS=2")
    names = ("tickets_finetune", "gin/models/t5_1_1.gin", "gin/sizes/base.gin")
    settings = ("VOCAB_SIZE=32128", "OPTIMIZER=adamw", *layers)
    write_folder(resolve.resolve(names, settings).run.student, tmp_path / "hf", "float32", 10**10)
    idle = peak("convert", "--from=hf", f"--checkpoint={FOLDER}", f"--run_dir={tmp_path}/small")
    run = f"--run_dir={tmp_path}/run"
    peak("convert", "--from=hf", f"--checkpoint={tmp_path}/hf", run)
    there = peak("convert", "--from=native", run, f"--output={tmp_path}/t5x")
    back = [f"--gin_file={name}" for name in names] + [f"--gin.{text}" for text in settings]
    back += [f"--checkpoint={tmp_path}/t5x", f"--run_dir={tmp_path}/back"]
    found = there, peak("convert", "--from=t5x", *back)
    assert max(found) < idle + 0.5 * GIB, (found, idle)
