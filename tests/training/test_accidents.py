"""Signals, two writers, a clock that goes back, damaged records, full disks."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest
from etils import epath

from distill import cli
from distill.engines import native
from distill.errors import UserError
from distill.inference.evaluator import Evaluator
from distill.training import loop
from distill.training.events import EventWriter
from distill.training.run_folder import MetricsLog
from distill.training.run_lock import RunLock
from distill.training.saved_checkpoints import SavedCheckpoints

EXPERIMENT = "tickets_step_by_step"


def _train(settings: tuple[str, ...], folder: pathlib.Path) -> int:
    flags = [f"--gin.{text}" for text in settings]
    return cli.main(["train", f"--gin_file={EXPERIMENT}", f"--run_dir={folder}", *flags])


def _same(folder: pathlib.Path, other: pathlib.Path) -> bool:
    results = [json.loads((path / "results.json").read_text()) for path in (folder, other)]
    for result in results:
        del result["seconds"]
    names = ("metrics.jsonl", "predictions_test.jsonl", "config.gin")
    texts = [[(path / name).read_text() for name in names] for path in (folder, other)]
    return results[0] == results[1] and texts[0] == texts[1]


@pytest.fixture(autouse=True)
def usual_signals():
    """nohup ignores SIGHUP, and processes of pytest-xdist Ctrl-C; a run would do so too."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_saves_the_step_and_the_run_goes_on_from_it(
    number, code, told, micro, run_dir, tmp_path, monkeypatch, capsys
):
    """Step 5 lies between two lines of metrics."""
    train_step = loop.Trainer.train_step

    def interrupted(trainer, state, batch):
        state, metrics = train_step(trainer, state, batch)
        if int(state.step) == 5:
            signal.raise_signal(number)
        return state, metrics

    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "train_step", interrupted)
        assert _train(micro, tmp_path / "run") == code
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"distill: {told}: step 5 is saved; the same command resumes there"
    assert signal.getsignal(number) == handler
    assert _train(micro, tmp_path / "run") == 0
    assert "resumed at step 5\n" in capsys.readouterr().err
    assert _same(tmp_path / "run", run_dir)


def _hang_up_at(call: int, monkeypatch) -> None:
    """SIGHUP while a split is decoded for the `call`-th time: validation at 6 and 12, the test."""
    split, calls = Evaluator.split, itertools.count(1)

    def decode(*arguments, **settings):
        if next(calls) == call:
            signal.raise_signal(signal.SIGHUP)
            time.sleep(30)  # the handler interrupts it
        return split(*arguments, **settings)

    monkeypatch.setattr(Evaluator, "split", decode)


def _accuracies(folder: pathlib.Path) -> dict[str, str]:
    """What checkpoints know of their validation, by step."""
    paths = (folder / "checkpoints").glob("*/metrics/metrics")
    return {path.parts[-3]: path.read_text() for path in paths}


@pytest.mark.parametrize(("call", "step"), [(1, 6), (2, 12), (3, 12)])
def test_a_signal_while_decoding_saves_the_step(
    call, step, micro, run_dir, tmp_path, monkeypatch, capsys
):
    """The run that resumes after an interrupted validation does it first."""
    with monkeypatch.context() as patch:
        _hang_up_at(call, patch)
        assert _train(micro, tmp_path / "run") == 129
    told = f"stopped by SIGHUP: step {step} is saved; the same command resumes there"
    assert told in capsys.readouterr().err
    assert _train(micro, tmp_path / "run") == 0
    assert f"resumed at step {step}\n" in capsys.readouterr().err
    assert _same(tmp_path / "run", run_dir)
    accuracies = _accuracies(tmp_path / "run")
    assert accuracies["12"] == _accuracies(run_dir)["12"]


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2])
def test_the_best_checkpoint_is_kept_after_an_interrupted_validation(
    call, micro, tmp_path, monkeypatch
):
    settings = (*micro, "CHECKPOINT='best'")
    assert _train(settings, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        _hang_up_at(call, patch)
        assert _train(settings, tmp_path / "run") == 129
    assert _train(settings, tmp_path / "run") == 0
    assert _same(tmp_path / "run", tmp_path / "whole")
    assert _accuracies(tmp_path / "run") == _accuracies(tmp_path / "whole")


def test_ctrl_c_twice_stops_at_once(micro, tmp_path, monkeypatch, capfd):
    def interrupted(trainer, state, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop.Trainer, "train_step", interrupted)
    assert _train(micro, tmp_path / "run") == 130
    lines = capfd.readouterr().err.splitlines()
    assert "Ctrl-C: stopping after this step; press it again to stop without saving" in lines
    assert lines[-1] == "distill: interrupted: nothing is saved yet; the same command starts again"


def test_the_second_of_two_writers_is_refused(resolved, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with RunLock(folder):
        said = f"run is in use by process {os.getpid()} on {socket.gethostname()} since 2.*: wait"
        with pytest.raises(UserError, match=said):
            native.train(resolved, folder, lambda line: None)
    assert (folder / "lock").read_text() == ""
    with RunLock(folder):
        pass


def test_a_dead_holder_is_followed_on_its_own_host_alone(tmp_path):
    path = tmp_path / "lock"
    dead = {"pid": 12, "host": socket.gethostname(), "started": "2026-01-02", "boot": "earlier"}
    path.write_text(json.dumps(dead))
    with RunLock(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    path.write_text(json.dumps({**dead, "host": "elsewhere"}))
    with (
        pytest.raises(UserError, match=r"process 12 on elsewhere.*if that .* ended, delete .*lock"),
        RunLock(tmp_path),
    ):
        pass
    for torn in ("", '{"pid": 1', "[1]"):
        path.write_text(torn)
        with RunLock(tmp_path):
            pass


def test_the_clock_may_go_back(resolved, run_dir, tmp_path, monkeypatch):
    now, steps = time.time, []
    monkeypatch.setattr(time, "time", lambda: now() - (30 * 86400 if steps else 0))

    def progress(line: str) -> None:
        if "4/12" in line:
            steps.append(line)

    folder = tmp_path / "run"
    native.train(resolved, folder, progress)
    assert steps and _same(folder, run_dir)
    first = next(folder.glob("events.out.tfevents.*"))
    EventWriter(folder, 13).close()
    second = max(str(path) for path in folder.glob("events.out.tfevents.*"))
    assert str(first) < second
    import tensorflow as tf

    events = list(tf.compat.v1.train.summary_iterator(str(first)))
    values = [e.step for e in events for v in e.summary.value if v.tag == "loss"]
    assert values == [2, 4, 6, 8, 10, 12]
    restarts = list(tf.compat.v1.train.summary_iterator(second))
    assert [e.step for e in restarts if e.session_log.status == e.session_log.START] == [13]


def test_damaged_lines_of_metrics_are_left_out_and_said(tmp_path):
    good = [json.dumps({"step": step, "loss": 0.5}).encode() for step in (2, 4, 6)]
    bad = [b"[1]", b"\xff\xfe", b"3", b'{"step": "2"}', b"[" * 10_000]
    (tmp_path / "metrics.jsonl").write_bytes(
        b"\n".join([good[0], *bad, good[1], good[2], b'{"torn'])
    )
    lines: list[str] = []
    MetricsLog(tmp_path, 4, lines.append).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == good[0] + b"\n" + good[1] + b"\n"
    path = tmp_path / "metrics.jsonl"
    assert lines == [f"{path}:{n} is damaged: dropping the line" for n in range(2, 7)]


@pytest.fixture
def finished(run_dir, tmp_path) -> pathlib.Path:
    shutil.copytree(run_dir, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("results.json", b'{"accuracy": 0.5', "not JSON"),
        ("results.json", b"\xff", "not JSON"),
        ("results.json", b"[1]", "got a JSON list, expected an object"),
        ("results.json", b'{"accuracy": 1}', "does not contain the results of a run"),
        ("predictions_test.jsonl", None, "is missing"),
        ("predictions_test.jsonl", b"", "has 0 lines, expected 24"),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_said(name, content, said, finished):
    assert native.read_finished(epath.Path(finished), pytest.fail)
    (finished / name).unlink() if content is None else (finished / name).write_bytes(content)
    lines: list[str] = []
    assert native.read_finished(epath.Path(finished), lines.append) is None
    assert said in lines[0] and lines[0].endswith(": scoring the run again")


def test_a_run_whose_results_are_torn_is_scored_again(resolved, run_dir, finished, monkeypatch):
    (finished / "results.json").write_text('{"accuracy": 0.5')
    monkeypatch.setattr(loop.Trainer, "train_step", lambda *_: pytest.fail("trained"))
    native.train(resolved, finished, lambda line: None)
    assert _same(finished, run_dir)


def test_a_finished_run_without_checkpoints_is_refused(resolved, finished):
    shutil.rmtree(finished / "checkpoints")
    with pytest.raises(UserError, match=r"checkpoints are missing: delete .*results.json to train"):
        native.train(resolved, finished, lambda line: None)
    with pytest.raises(UserError, match=r"is finished: copy .* or delete .*results.json and train"):
        SavedCheckpoints(finished).restore_params({})


def test_a_run_folder_that_is_a_file_is_refused(resolved, tmp_path):
    (tmp_path / "run").write_text("")
    for folder, message in (("run", "is a file, expected a folder"), ("run/a", "run is a file")):
        with pytest.raises(UserError, match=message):
            native.train(resolved, tmp_path / folder, lambda line: None)


@pytest.fixture
def small_disk(tmp_path):
    """A function that sets the size of a disk, and the folder that it is mounted on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a disk is not permitted here")
    try:
        yield lambda size: subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(folder)], check=True
        )
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_message_and_the_run_goes_on(
    small_disk, micro, run_dir, tmp_path, capsys
):
    folder = tmp_path / "disk" / "run"
    for size in ("4k", "200k"):
        small_disk(size)
        assert _train(micro, folder) == 2, size
        said = capsys.readouterr().err.splitlines()
        assert "cannot be written: No space left on device; " in said[-1], said[-1]
        assert not any("Traceback" in line for line in said)
    small_disk("20m")
    assert _train(micro, folder) == 0
    assert _same(folder, run_dir)
