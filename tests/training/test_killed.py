"""A run that is killed goes on as if nobody had disturbed it; tests/training/test_native.py kills
one between two checkpoints, benchmarks/kill_resume.py at random moments."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from distill.config import resolve
from distill.engines import native
from distill.inference import load

EXPERIMENT = "tickets_step_by_step"


@pytest.fixture(scope="module")
def settings(micro):
    """`best` writes a second checkpoint; later files are cut back as well."""
    return (*micro, "CHECKPOINT=best")


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    native.train(resolve.resolve([EXPERIMENT], settings), folder, lambda line: None)
    return folder


def _content(folder):
    """Everything of a run that must not differ: files, and the bytes of the parameters."""
    import jax

    results = json.loads((folder / "results.json").read_text())
    del results["seconds"]
    names = ("metrics.jsonl", "predictions_test.jsonl", "config.gin")
    files = [json.dumps(results), *((folder / name).read_text() for name in names)]
    return files, [leaf.tobytes() for leaf in jax.tree.leaves(_params(folder))]


def _params(folder):
    import jax

    return jax.device_get(load.load_run(folder).params)


def _before_the_first_checkpoint(folder, log):
    return "training rows" in log.read_text()


def _while_a_checkpoint_is_written(folder, log):
    return any(folder.glob("checkpoints/4.orbax-checkpoint-tmp*"))


def _before_the_test_is_scored(folder, log):
    return (folder / "checkpoints/12/_CHECKPOINT_METADATA").exists()


MOMENTS = {
    _before_the_first_checkpoint: (None,),
    _while_a_checkpoint_is_written: (None, 4),  # 4 if it was complete in the same instant
    _before_the_test_is_scored: (12,),
}


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__.strip("_"))
def test_a_killed_run_ends_like_the_undisturbed_one(moment, settings, undisturbed, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    command = [sys.executable, "-m", "distill.cli", "train", f"--gin_file={EXPERIMENT}",
               f"--run_dir={folder}", *(f"--gin.{text}" for text in settings)]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, env=os.environ)
    deadline = time.monotonic() + 180
    while not moment(folder, log):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "results.json").exists(), "the run ended before it could be killed"
    lines: list[str] = []
    native.train(resolve.resolve([EXPERIMENT], settings), folder, lines.append)
    resumed = [int(line.split()[-1]) for line in lines if line.startswith("resumed")]
    assert (resumed or [None])[0] in MOMENTS[moment]
    assert _content(folder) == _content(undisturbed)
