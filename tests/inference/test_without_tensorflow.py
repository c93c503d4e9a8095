"""`distill predict` and `distill.load` from a run folder need no TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from distill.config import resolve
from distill.training import assets, run_folder
from distill.training.checkpoints import Checkpoints
from distill.training.optimizer import make_optimizer
from distill.training.step import init_state

HEAVY = ("tensorflow", "seqio", "tensorflow_datasets", "tensorflow_text", "optax")
TEXT = "my fan seems burnt . i bought it in march ."
CHECK = """
import sys
found = sorted(set({heavy!r}) & set(sys.modules))
assert not found, f"imported: {{found}}"
"""
COMMAND = """\
import sys
from distill import cli
assert cli.main(["predict", "--run_dir=" + sys.argv[1], "--json", "--rationale", sys.argv[2]]) == 0
"""
API = """\
import distill, json, sys
(found,) = distill.load(sys.argv[1]).predict(sys.argv[2:])
print(json.dumps({"predictions": [{"prediction": found.label, "input": found.input}]}))
"""


@pytest.fixture
def untrained(micro, tmp_path):
    """A function that takes macro settings and makes a run folder at step 0."""

    def make(*settings):
        resolved = resolve.resolve(["tickets_step_by_step"], [*micro, *settings])
        config = resolved.run
        folder = run_folder.open_run(tmp_path / "run", resolved.text)
        assets.write(folder, assets.of_data(config.data))
        state = init_state(config.student, make_optimizer(config.optimizer), 0)
        with Checkpoints(folder, keep=1) as checkpoints:
            checkpoints.save_now(state)
        return folder

    return make


def _answers(code, folder, text=TEXT):
    program = code + CHECK.format(heavy=HEAVY)
    arguments = [sys.executable, "-c", program, str(folder), text]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["predictions"]
    assert answer["input"] == text
    return answer["prediction"]


def test_words(run_dir):
    tested = json.loads((run_dir / "predictions_test.jsonl").open().readline())
    assert _answers(COMMAND, run_dir, tested["input"]) == tested["prediction"]


@pytest.mark.slow
def test_sentencepiece(untrained, shared_dir):
    model = shared_dir / "data" / "vocab" / "cc_all.32000.100extra.model"
    folder = untrained(
        "VOCABULARY='sentencepiece'", f"VOCABULARY_PATH='{model}'", "VOCAB_SIZE=32128"
    )
    _answers(COMMAND, folder)


@pytest.mark.slow
def test_bytes(untrained):
    _answers(COMMAND, untrained("VOCABULARY='bytes'", "VOCAB_SIZE=264", "INPUT_LENGTH=256"))


@pytest.mark.slow
def test_the_api(run_dir):
    assert _answers(API, run_dir) == _answers(COMMAND, run_dir)


@pytest.mark.slow
def test_the_check_sees_an_import(run_dir):
    with pytest.raises(AssertionError, match=r"imported: .*optax"):
        _answers(f"import optax\n{API}", run_dir)
