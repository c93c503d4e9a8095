"""Two processes with two devices each are one run, the same as one process with four."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from distill.errors import UserError
from distill.training import hosts

EXPERIMENT = "tickets_step_by_step"
SLACK = 2e-5  # sums run in another order


def test_hosts_that_cannot_be_found_are_an_error():
    with pytest.raises(UserError, match=r"found neither a TPU slice.*give --coordinator_address"):
        hosts.connect()


@pytest.mark.parametrize(("index", "count"), [(0, 0), (2, 2), (-1, 2)])
def test_an_index_out_of_range_is_an_error(index, count):
    expected = f"expected a --process_id from 0 to {max(count - 1, 0)} and at least one process"
    with pytest.raises(UserError, match=expected):
        hosts.connect("127.0.0.1:1", count, index)


def test_a_slice_whose_hosts_were_not_joined_is_refused(monkeypatch):
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 4)
    with pytest.raises(UserError, match=r"belong to 4 hosts.*--distributed"):
        hosts.check_connected()


def _free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _start(folder, settings, devices, *flags):
    log = pathlib.Path(f"{folder}.{'_'.join(flags).replace('/', '')[-20:]}.log")
    command = [
        sys.executable,
        "-m",
        "distill.cli",
        "train",
        f"--gin_file={EXPERIMENT}",
        f"--run_dir={folder}",
        *(f"--gin.{text}" for text in settings),
        *flags,
    ]
    flag = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment), log


def _hosts(folders, settings):
    """Both processes: exit codes and what they said."""
    place = (f"--coordinator_address=127.0.0.1:{_free_port()}", "--num_processes=2")
    started = [
        _start(folder, own, 2, *place, f"--process_id={index}")
        for index, (folder, own) in enumerate(zip(folders, settings, strict=True))
    ]
    try:
        return [(process.wait(timeout=180), log.read_text()) for process, log in started]
    finally:
        for process, _ in started:  # one that waits for the other would outlive the test
            process.kill()


def _metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _answers(folder):
    lines = (folder / "predictions_test.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def settings(micro):
    return (*micro, "CHECKPOINT=best", "PARAMETER_SHARDING=zero", "EVAL_PERIOD=4")


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    process, log = _start(folder, settings, 4)
    assert process.wait(timeout=180) == 0, log.read_text()
    return folder


@pytest.fixture(scope="module")
def joined(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined") / "run"
    return folder, _hosts([folder] * 2, [settings] * 2)


def test_two_hosts_train_as_one(alone, joined):
    folder, ((code, said), (other_code, other_said)) = joined
    assert (code, other_code) == (0, 0), said + other_said
    ours, theirs = _metrics(folder), _metrics(alone)
    assert [list(record) for record in ours] == [list(record) for record in theirs]
    for record, expected in zip(ours, theirs, strict=True):
        assert record == pytest.approx(expected, rel=SLACK)
    for name in ("config.gin", "run.json"):
        assert (folder / name).read_text() == (alone / name).read_text()
    for answer, expected in zip(_answers(folder), _answers(alone), strict=True):
        probability = pytest.approx(expected.pop("probability"), abs=1e-4)
        assert answer == {**expected, "probability": probability}


def test_the_first_host_alone_speaks(joined):
    _, ((_, said), (_, other_said)) = joined
    assert "12/12 steps" in said and "4 devices on 2 hosts" in said
    assert "12/12 steps" not in other_said


@pytest.mark.slow
def test_a_run_moves_from_one_host_to_two(settings, alone, tmp_path):
    """Two processes resume from the checkpoint of step 8, which one process wrote."""
    folder = tmp_path / "run"
    assert _start(folder, [*settings, "TRAIN_STEPS=8"], 4)[0].wait(timeout=180) == 0
    (folder / "results.json").unlink()
    config = folder / "config.gin"
    config.write_text(config.read_text().replace("TRAIN_STEPS = 8", "TRAIN_STEPS = 12"))
    codes = _hosts([folder] * 2, [settings] * 2)
    assert [code for code, _ in codes] == [0, 0], codes
    assert "resumed at step 8" in codes[0][1]


@pytest.mark.slow
def test_a_signal_to_one_host_stops_both_after_the_same_step(settings, tmp_path):
    """Both save, both exit with 143, and both go on from that step."""
    folder, long = tmp_path / "run", [*settings, "TRAIN_STEPS=4000", "EVAL_PERIOD=4000"]
    long.append("SAVE_PERIOD=4000")
    place = (f"--coordinator_address=127.0.0.1:{_free_port()}", "--num_processes=2")
    started = [_start(folder, long, 2, *place, f"--process_id={i}") for i in (0, 1)]
    try:
        deadline = time.monotonic() + 400
        while "training: 20/4000" not in started[0][1].read_text():
            assert started[0][0].poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        started[1][0].send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=60) for process, _ in started]
    finally:
        for process, _ in started:
            process.kill()
    said = [log.read_text() for _, log in started]
    assert codes == [143, 143], said
    steps = {text.rpartition("SIGTERM: step ")[2].split()[0] for text in said}
    assert len(steps) == 1 and 20 <= int(min(steps)) < 4000
    assert (folder / "checkpoints" / min(steps) / "default").is_dir()


@pytest.mark.slow
def test_what_hosts_must_share_is_checked(settings, tmp_path):
    """Folders of their own, then another seed: both processes end, and both say why."""
    own = _hosts([tmp_path / "a", tmp_path / "b"], [settings] * 2)
    assert [code for code, _ in own] == [2, 2], own
    assert all("process 1 does not see" in said for _, said in own)
    seeds = _hosts([tmp_path / "c"] * 2, [(*settings, f"SEED={seed}") for seed in (1, 2)])
    assert [code for code, _ in seeds] == [2, 2], seeds
    assert all("the configuration of process 1 differs" in said for _, said in seeds)


def test_one_host_that_fails_ends_the_others(settings, tmp_path):
    found = _hosts([tmp_path / "run"] * 2, [settings, (*settings, "VOCAB_SIZE=8")])
    assert [code for code, _ in found] == [2, 2], found
    assert "failed on process 1" in found[0][1] and "VOCAB_SIZE = 8" in found[1][1]
    assert not (tmp_path / "run").exists()
