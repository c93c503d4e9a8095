"""Runs on several processes that are ended, and go on as if nobody had disturbed them.

Three fixed points here; benchmarks/kill_hosts.py ends runs at random moments.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import kill_resume
from kill_hosts import Hosts, disturb

LOSS = 1e-5  # relative; sums run in another order
LONGER = ("TRAIN_STEPS=24", "CHECKPOINT=best", "PARAMETER_SHARDING=zero")


@pytest.fixture(scope="module")
def settings(micro):
    return (*micro, *LONGER)


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    run = Hosts(tmp_path_factory.mktemp("undisturbed"), settings)
    run.finish()
    return run


def _metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _assert_same_curve(folder, expected):
    ours, theirs = _metrics(folder), _metrics(expected)
    assert [list(record) for record in ours] == [list(record) for record in theirs]
    for record, other in zip(ours, theirs, strict=True):
        assert record == pytest.approx(other, rel=LOSS, abs=LOSS)


@pytest.mark.slow
def test_a_run_that_is_ended_three_times_becomes_the_undisturbed_one(
    undisturbed, settings, tmp_path
):
    run = Hosts(tmp_path, settings, undisturbed.cache / "xla")
    run.start()
    run.wait_until(r"training: 6/24")
    codes, _, is_right = disturb(run, signal.SIGKILL, [1])
    assert is_right and codes == [75, -9], codes
    assert "process 1 on " in run.said(0) and "has died" in run.said(0)
    run.start()
    run.wait_until(writes_from=12)
    codes, _, is_right = disturb(run, signal.SIGKILL, [0])
    assert is_right and codes[0] == -9, codes
    run.start()
    run.wait_until(r"training: 16/24")
    codes, seconds, is_right = disturb(run, signal.SIGTERM, [1])
    assert is_right and codes == [143, 143] and seconds < 30, (codes, seconds)
    stopped = {run.said(i).rpartition("SIGTERM: ")[2] for i in (0, 1)}
    assert len(stopped) == 1 and next(iter(stopped)).startswith("step "), stopped
    step = next(iter(stopped)).split()[1]
    assert f"resumed at step {step}" in run.finish()
    wanted = kill_resume.content(undisturbed.dir)
    assert kill_resume.differences(run.dir, wanted) == []


@pytest.mark.slow
def test_a_killed_run_goes_on_with_fewer_and_with_more_processes(undisturbed, settings, tmp_path):
    run = Hosts(tmp_path / "two", settings, undisturbed.cache / "xla")
    run.start()
    run.wait_until(r"training: 10/24")
    codes, _, is_right = disturb(run, signal.SIGKILL, [0, 1])
    assert is_right, codes
    for count, devices in ((1, 4), (4, 2)):
        other = Hosts(tmp_path / str(count), settings, count=count, devices=devices)
        shutil.copytree(run.dir, other.dir)
        assert "resumed at step 8" in other.finish()
        _assert_same_curve(other.dir, undisturbed.dir)


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_curve(settings, tmp_path):
    runs = {}
    for count, devices in ((1, 4), (2, 2), (4, 2)):
        run = Hosts(tmp_path / f"{count}", settings, count=count, devices=devices)
        runs[count] = run.dir
        run.finish()
    for count in (2, 4):
        _assert_same_curve(runs[count], runs[1])


_PAIRS = """
import json, sys
import jax, numpy as np
from distill.config import resolve
from distill.data import cache as caches
from distill.training import hosts, mesh
from distill.training.trainer import make_trainer

place, settings = json.loads(sys.argv[1]), json.loads(sys.argv[2])
if place[1] > 1:
    hosts.connect(*place)
config = resolve.resolve(["tickets_step_by_step"], settings).run
trainer = make_trainer(config, caches.load_cache(config.data))
found = []
for step, batch in enumerate(trainer.stream.batches(0, 14)):
    placed = mesh.put_batch(batch, trainer.mesh)
    for name, array in placed.items():
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, batch[name][shard.index])
    tokens = placed["encoder_input_tokens"]
    own = sum(shard.data.shape[0] for shard in tokens.addressable_shards)
    found.append([own, tokens.shape[0], list(map(int, trainer.stream.rows(step)))])
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_pair_is_trained_on_once_an_epoch(count, micro, tmp_path):
    """54 rows in batches of 8: every process has its part of the same batches."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    flag = f"--xla_force_host_platform_device_count={8 // count}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PAIRS, json.dumps([address, count, i]), json.dumps(micro)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for i in range(count)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert not any(process.returncode for process in processes), outputs
    found = [json.loads(text.splitlines()[-1]) for text, _ in outputs]
    for steps in zip(*found, strict=True):
        assert len({json.dumps(rows) for _, _, rows in steps}) == 1
        assert sum(own for own, _, _ in steps) == steps[0][1]
    rows = [row for _, _, rows in found[0] for row in rows]
    epochs = [collections.Counter(rows[begin : begin + 54]) for begin in (0, 54)]
    assert all(counts == dict.fromkeys(range(54), 1) for counts in epochs)
