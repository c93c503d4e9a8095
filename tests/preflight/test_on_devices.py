"""Layouts of parameters on 4 CPU devices: the same training, and exact bytes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

MICRO = (
    "EMBED_DIM=16",
    "MLP_DIM=16",
    "NUM_HEADS=2",
    "HEAD_DIM=8",
    "NUM_ENCODER_LAYERS=1",
    "NUM_DECODER_LAYERS=1",
    "TRAIN_STEPS=12",
    "WARMUP_STEPS=0",
    "BATCH_SIZE=4",
    "DROPOUT_RATE=0.0",
    "SCAN_LAYERS=True",
    "REMAT=full",
    "MICROBATCHES=2",
)
SPLIT = ("replicated", "zero", "zero and tensor")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured():
    script = pathlib.Path(__file__).with_name("on_devices.py")
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, str(script), *MICRO],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("layout", SPLIT)
def test_layouts_train_alike(measured, layout):
    """Gradients before the first step, losses and norms of three, parameters after them."""
    found, one = measured[layout], measured["one"]
    assert found["gradients"] < 1e-5
    assert found["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
    # AdamW divides by the gradient's own size: where it is next to 0, rounding decides.
    assert found["params"] < 1e-3


@pytest.mark.parametrize("layout", SPLIT)
def test_layouts_decode_alike(measured, layout):
    """The same tokens, each data-parallel device with its own rows."""
    found = measured[layout]
    assert found["decoded"] == measured["one"]["decoded"]
    devices = {"zero and tensor": 2}.get(layout, 4)
    assert found["inputs_of_a_device"] == 1 / devices


def test_zero_splits_the_state(measured):
    """A device of four holds a quarter of what has an embedding axis."""
    assert measured["replicated"]["state"] == measured["one"]["state"]
    assert measured["zero"]["state"] < 0.3 * measured["one"]["state"]


@pytest.mark.parametrize("layout", ("one", *SPLIT))
def test_arguments_and_outputs_are_the_live_arrays_bytes(measured, layout):
    found = measured[layout]
    for which in ("arguments", "outputs"):
        compiled, live = found[which]
        assert compiled == live
    assert found["counted_state"] == found["state"]


def test_collectives_hold_the_gradients(measured):
    """An all-reduce on a ring sends 2 (n - 1) / n of all gradients, in each part or once."""
    assert measured["one"]["collectives"] == []
    sent = [b for kind, axis, b in measured["replicated"]["collectives"] if kind == "all-reduce"]
    assert sum(sent) >= 2 * 3 / 4 * measured["replicated"]["parameters"]
    kinds = {kind for kind, *_ in measured["zero"]["collectives"]}
    assert "all-gather" in kinds
    axes = {axis for _, axis, _ in measured["zero and tensor"]["collectives"]}
    assert {"data", "model"} <= axes
