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


@pytest.mark.slow
def test_a_base_model_takes_less_memory_than_its_parameters(tmp_path):
    """248 million parameters, 0.92 GiB in float32, in bfloat16 shards."""
    names = ["tickets_finetune", "gin/models/t5_1_1.gin", "gin/sizes/base.gin"]
    student = resolve.resolve(names, ("VOCAB_SIZE=32128",)).run.student
    folder = tmp_path / "hf"
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = write_params(
        lambda parameter: rng.standard_normal(parameter.shape, np.float32),
        student,
        folder,
        "bfloat16",
        shard_bytes=10**8,
    )
    assert len(files) > 4
    (folder / "config.json").write_text(json.dumps(config_dict(student)))
    shutil.copy(FOLDER / "spiece.model", folder)
    arguments = ("convert", "--from=hf", f"--checkpoint={folder}")
    idle = peak("convert", "--from=hf", f"--checkpoint={FOLDER}", f"--run_dir={tmp_path}/small")
    found = peak(*arguments, f"--run_dir={tmp_path}/run", limit=8 * GIB)
    # The largest array has 0.09 GiB; it is there once, and in parts as read, encoded, compressed.
    assert found < idle + 0.5 * GIB, (found, idle)
