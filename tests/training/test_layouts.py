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
from distill.training.layouts import choose_layout, choose_parts, tell_change

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
    assert choose("auto", 1, platform, microbatches=2) == "flat"
    assert choose("packed", 1, platform) == "packed"


def test_auto_is_packed_on_a_tpu():
    assert choose("auto", 1, "tpu") == "packed"
    assert choose("flat", 1, "tpu") == "flat"


def test_flat_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="got LAYOUT = 'flat' on 4 devices, expected 'auto' or"):
        choose("flat", 4)
    with pytest.raises(UserError, match=r"unknown layout 'flt' \(set by macro LAYOUT\).*flat"):
        choose("flt")


@pytest.mark.parametrize(
    ("platform", "microbatches", "parts"),
    [("cpu", 1, None), ("cpu", 2, 2), ("gpu", 1, 1), ("gpu", 4, 4), ("tpu", 1, 1)],
)
def test_only_a_cpu_chooses_parts_itself(platform, microbatches, parts):
    train = TrainConfig(100, 8, microbatches=microbatches)
    assert choose_parts(train, mesh(1, platform)) == parts


@pytest.mark.parametrize(
    ("before", "now", "want"),
    [
        (("flat", 1), ("packed", 1), "with flat batches and continues with packed ones"),
        (("flat", 1), ("packed", 1), "set LAYOUT = 'flat' in a new run to repeat it exactly"),
        (("flat", 1), ("flat", 5), "with flat batches and continues with flat (5 parts) ones"),
        (("flat", 5), ("flat", 1), "; set MICROBATCHES = 5 in a new run to repeat it exactly"),
        (("flat", 5), ("packed", 1), "set LAYOUT = 'flat' and MICROBATCHES = 5 in a new run"),
    ],
)
def test_only_a_change_is_told(before, now, want):
    lines = []
    tell_change(before, before, lines.append)
    assert not lines
    tell_change(before, now, lines.append)
    assert want in lines[0]
    if before[1] == 1 and now[0] == "flat":  # nothing that can be set
        assert "new run" not in lines[0]


def test_a_run_names_its_layout(run_dir):
    described = json.loads((run_dir / "run.json").read_text())
    assert (described["layout"], described["parts"]) == ("flat", 1)
    assert "flat batches (LAYOUT = 'auto')" in (run_dir / "lines.txt").read_text()


@pytest.mark.slow
def test_layouts_train_alike(micro, tmp_path):
    """The same rows in the same order: without dropout the same metrics, but for rounding."""
    losses = []
    for layout, parts in (("packed", 1), ("flat", 1), ("flat", 3)):
        settings = (*micro, "DROPOUT_RATE=0.0", f"LAYOUT={layout!r}", f"MICROBATCHES={parts}")
        folder = tmp_path / f"{layout}{parts}"
        native.train(resolve.resolve([EXPERIMENT], settings), folder, lambda _: None)
        assert json.loads((folder / "run.json").read_text())["parts"] == parts
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        losses.append([one["loss"] for one in records if "loss" in one])
    assert len(losses[0]) == 6
    np.testing.assert_allclose(losses[1:], losses[:1] * 2, rtol=1e-4)


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
