"""LAYOUT: a run uses the right layout and prints its name."""

import json
import os
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest

from distill.config import resolve
from distill.config.train import TrainConfig
from distill.engines import native
from distill.errors import UserError
from distill.training.layouts import choose_layout, tell_change

EXPERIMENT = "tickets_step_by_step"


def mesh(devices: int, platform: str = "cpu") -> SimpleNamespace:
    grid = np.array([SimpleNamespace(platform=platform)] * devices).reshape(-1, 1)
    return SimpleNamespace(size=devices, devices=grid)


def choose(layout: str, devices: int = 1, platform: str = "cpu", microbatches: int = 1) -> str:
    train = TrainConfig(100, 8, layout=layout, microbatches=microbatches)
    return choose_layout(train, mesh(devices, platform))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_auto_is_flat_on_one_device(platform):
    assert choose("auto", 1, platform) == "flat"
    assert choose("auto", 2, platform) == "packed"
    assert choose("auto", 1, platform, microbatches=2) == "packed"
    assert choose("packed", 1, platform) == "packed"


def test_auto_is_packed_on_a_tpu():
    assert choose("auto", 1, "tpu") == "packed"
    assert choose("flat", 1, "tpu") == "flat"


def test_flat_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="got LAYOUT = 'flat' on 4 devices, expected 'auto' or"):
        choose("flat", 4)
    with pytest.raises(UserError, match="got LAYOUT = 'flat' with MICROBATCHES = 2, expected"):
        choose("flat", microbatches=2)
    with pytest.raises(UserError, match=r"unknown layout 'flt' \(set by macro LAYOUT\).*flat"):
        choose("flt")


def test_only_a_change_is_told():
    lines = []
    tell_change("flat", "flat", lines.append)
    assert not lines
    tell_change("flat", "packed", lines.append)
    assert "started with flat batches and continues with packed ones" in lines[0]


def test_a_run_names_its_layout(run_dir):
    assert json.loads((run_dir / "run.json").read_text())["layout"] == "flat"
    assert "flat batches (LAYOUT = 'auto')" in (run_dir / "lines.txt").read_text()


@pytest.mark.slow
def test_layouts_train_alike(micro, tmp_path):
    """The same rows in the same order: without dropout the same metrics, but for rounding."""
    losses = []
    for layout in ("packed", "flat"):
        settings = (*micro, "DROPOUT_RATE=0.0", f"LAYOUT={layout!r}")
        native.train(resolve.resolve([EXPERIMENT], settings), tmp_path / layout, lambda _: None)
        lines = (tmp_path / layout / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        losses.append([one["loss"] for one in records if "loss" in one])
    assert len(losses[0]) == 6
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(micro, tmp_path, train_command):
    """And says that it does so in another layout."""
    folder = tmp_path / "run"
    command = train_command(folder, (*micro, "LAYOUT='auto'"))
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 180
    while not list(folder.glob("checkpoints/4/_CHECKPOINT_METADATA")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resumed at step" in done.stderr
    assert "started with flat batches and continues with packed ones" in done.stderr
    assert json.loads((folder / "run.json").read_text())["layout"] == "flat"
