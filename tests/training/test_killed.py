"""A run that is killed goes on as if nobody had disturbed it; tests/training/test_native.py kills
one between two checkpoints, benchmarks/kill_resume.py at random moments."""

import json
import os
import signal
import subprocess
import time

import pytest

from distill.config import resolve
from distill.data import cache as caches
from distill.engines import native
from distill.training import loop
from distill.training.saved_checkpoints import SavedCheckpoints
from distill.training.trainer import make_trainer

EXPERIMENT = "tickets_step_by_step"


@pytest.fixture(scope="module")
def settings(micro):
    """`best` keeps a second checkpoint, and saves at evaluations as well."""
    return (*micro, "CHECKPOINT=best")


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    native.train(resolve.resolve([EXPERIMENT], settings), folder, lambda line: None)
    return folder


def _content(folder):
    """Everything of a run that must not differ: files, and the bytes of each checkpoint."""
    results = json.loads((folder / "results.json").read_text())
    del results["seconds"]
    names = ("metrics.jsonl", "predictions_test.jsonl", "config.gin")
    files = [json.dumps(results), *((folder / name).read_text() for name in names)]
    return files, {path.name: _checkpoint(path) for path in (folder / "checkpoints").iterdir()}


def _checkpoint(path):
    import jax
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        leaves = jax.tree.leaves(jax.device_get(reader.restore(path / "default")))
    metrics = path / "metrics/metrics"
    return metrics.exists() and metrics.read_text(), [leaf.tobytes() for leaf in leaves]


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
def test_a_killed_run_ends_like_the_undisturbed_one(
    moment, settings, undisturbed, tmp_path, train_command
):
    folder, log = tmp_path / "run", tmp_path / "log"
    command = train_command(folder, settings)
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


ACCURACIES = {2: 0.1, 4: 0.2, 6: 0.6, 8: 0.4, 10: 0.6, 12: 0.5}  # 10 is the best, 12 the last


def _fit(trainer, folder, stop=None):
    """Trains with these accuracies; at step `stop` it is killed between evaluation and save."""
    start = SavedCheckpoints(folder).latest_step or 0
    accuracies = iter(ACCURACIES[step] for step in ACCURACIES if step > start)
    lines: list[str] = []

    def progress(line):
        lines.append(line)
        if line.startswith(f"step {stop}: validation"):
            raise KeyboardInterrupt

    folder.mkdir(exist_ok=True)
    try:
        state = loop.fit(trainer, lambda params: next(accuracies), folder, progress)
    except KeyboardInterrupt:
        return None
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert {m["step"]: m[k] for m in metrics for k in m if k.endswith("accuracy")} == ACCURACIES
    checkpoints = {path.name: _checkpoint(path) for path in (folder / "checkpoints").iterdir()}
    return int(state.step), metrics, checkpoints, [x for x in lines if x.startswith("resumed")]


@pytest.mark.slow
def test_a_kill_between_evaluation_and_save_loses_nothing(settings, tmp_path):
    """SAVE_PERIOD is 4; 2, 6 and 10 are saved because no evaluation before was better."""
    run = resolve.resolve([EXPERIMENT], (*settings, "EVAL_PERIOD=2")).run
    trainer = make_trainer(run, caches.load_cache(run.data))
    *undisturbed, _ = _fit(trainer, tmp_path / "whole")
    assert undisturbed[0] == 10 and set(undisturbed[2]) == {"10", "12"}
    assert [json.loads(undisturbed[2][step][0])["accuracy"] for step in ("10", "12")] == [0.6, 0.5]
    for stop in ACCURACIES:
        folder = tmp_path / str(stop)
        assert _fit(trainer, folder, stop) is None
        (folder / f"checkpoints/{stop + 1}.orbax-checkpoint-tmp").mkdir()  # half written
        *resumed, lines = _fit(trainer, folder)
        assert lines == ([f"resumed at step {stop - 2}"] if stop > 2 else [])
        assert resumed == undisturbed
