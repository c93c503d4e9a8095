"""T5X's mesh and recomputation from the macros of gin/meshes."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import parity
from parity import needs_t5x

from distill.config import files
from distill.config.resolve import resolve
from distill.engines.t5x import check as t5x_check
from distill.engines.t5x import errors as t5x_errors
from distill.engines.t5x import mesh as t5x_mesh
from distill.errors import UserError

MESHES = files.list_gin_files("meshes")
# Devices along x, y, z and of a chip
SLICES = {"v5e:4x4": (4, 4, 1, 1), "v5p:4x4x8": (4, 4, 8, 1), "v7:2x2x1": (2, 2, 1, 2)}


@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_file_goes_with_t5x(mesh):
    resolved = resolve(["gin/experiments/tickets_step_by_step.gin", mesh], [], "t5x")
    lines = t5x_check.check_t5x_run(resolved.run, resolved.macros)
    assert any("SCAN_LAYERS" in line for line in lines) == resolved.run.student.scan_layers


@pytest.mark.parametrize(
    ("slice_", "count", "expected"),
    [
        ("v5e:4x4", 1, (1, 1, 1, 1)),
        ("v5e:4x4", 2, (2, 1, 1, 1)),
        ("v5e:4x4", 4, (4, 1, 1, 1)),
        ("v5e:4x4", 8, (4, 2, 1, 1)),
        ("v5p:4x4x8", 8, (1, 1, 8, 1)),
        ("v5p:4x4x8", 16, (4, 4, 1, 1)),
        ("v7:2x2x1", 2, (1, 1, 1, 2)),
        ("v7:2x2x1", 4, (2, 1, 1, 2)),
        ("v7:2x2x1", 8, (2, 2, 1, 2)),
    ],
)
def test_the_devices_of_a_model_are_a_box_that_tiles_the_slice(slice_, count, expected):
    bounds = SLICES[slice_]
    box = t5x_mesh.neighbors(count, bounds)
    assert box == expected
    assert math.prod(box) == count
    assert not any(bound % side for bound, side in zip(bounds, box, strict=True))


def test_a_model_that_no_box_has_is_refused():
    with pytest.raises(UserError, match=r"MODEL_PARALLEL = 3, .*4x4x1 chips .*SUBMESH = \(x, y"):
        t5x_mesh.neighbors(3, SLICES["v5e:4x4"])


def test_a_model_that_does_not_fit_the_devices_is_refused():
    assert t5x_mesh.row_multiple(2, 1, None) == 2
    rounded = {devices: t5x_mesh.eval_rows(128, devices) for devices in (1, 64, 256, 48)}
    assert rounded == {1: 128, 64: 128, 256: 256, 48: 144}
    with pytest.raises(UserError, match=r"MODEL_PARALLEL = 3, expected a divisor"):
        t5x_mesh.row_multiple(1, 3, None)
    with pytest.raises(UserError, match=r"MODEL_PARALLEL_SUBMESH = \(2, 2, 1, 1\), expected"):
        t5x_mesh.row_multiple(1, 1, (2, 2, 1, 1))


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (
            "AssertionError: each dimension of the model parallel submesh (2, 2, 1, 1) must be a "
            "factor of the corresponding dimension of the global device mesh (1, 4)",
            "T5X has no mesh for MODEL_PARALLEL or MODEL_PARALLEL_SUBMESH on these devices",
        ),
        (
            "ValueError: Batch size (128) must be divisible by corresponding data mesh size (3).",
            "mesh size (3).: change BATCH_SIZE, MODEL_PARALLEL or MICROBATCHES",
        ),
    ],
)
def test_t5xs_complaints_of_the_mesh_are_explained(printed, said):
    assert said in t5x_errors.explain(["Traceback", printed, "after it"])


def test_the_mesh_follows_the_macro_on_any_device(monkeypatch):
    assert t5x_mesh.submesh(1, (2, 2, 1, 1)) == (2, 2, 1, 1)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    assert t5x_mesh.submesh(1, None) is None
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert [t5x_mesh.submesh(n, None) for n in (1, 2)] == [(1, 1), (1, 2)]
    chips = [
        types.SimpleNamespace(coords=(x, y, 0), core_on_chip=0) for x in range(4) for y in range(4)
    ]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(jax, "devices", lambda: chips)
    assert t5x_mesh.submesh(8, None) == (4, 2, 1, 1)


@needs_t5x
@pytest.mark.t5x
@pytest.mark.parametrize("remat", ["minimal", "full"])
def test_recomputed_layers_give_the_same_gradient(remat):
    config = dataclasses.replace(parity.CONFIG, dropout_rate=0.1)
    params = jax.tree.map(jnp.asarray, parity.random_params(config))
    batch = {name: rows[0] for name, rows in parity.weighted(parity.random_batches()).items()}
    key = jax.random.key(3)

    def gradient(remat, key):
        model = parity.t5x_model(config, parity.PAIRS, remat=remat)
        of = jax.value_and_grad(model.loss_fn, has_aux=True)
        traced = str(jax.make_jaxpr(of)(params, batch, key))
        (loss, _), grads = jax.jit(of)(params, batch, key)
        return float(loss), grads, traced.count("remat")

    loss, grads, stored = gradient("none", key)
    got_loss, got, recomputed = gradient(remat, key)
    assert stored == 0
    assert recomputed == config.num_encoder_layers + config.num_decoder_layers
    assert got_loss == pytest.approx(loss, rel=1e-6)
    assert gradient(remat, jax.random.key(4))[0] != pytest.approx(loss, rel=1e-3)  # dropout is on
    errors = jax.tree.map(lambda a, b: np.abs(a - b).max() / np.abs(b).max(), got, grads)
    assert max(jax.tree.leaves(errors)) < 1e-5
