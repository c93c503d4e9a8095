"""Checkpoints in a bucket: INIT_FROM, CONTINUE_FROM and `convert` read what a local path gives."""

from __future__ import annotations

import pathlib
import shutil

import jax
import numpy as np
import pytest
from bucket import buckets
from flax import traverse_util
from saved_state import state_of

from distill import cli
from distill.convert import folders, huggingface, initial, sources
from distill.engines.t5x.errors import check_steps
from distill.errors import UserError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "hf_loss"
BUCKET = "bucket"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A bucket BUCKET with one model in every form, and the run folder that they came from."""
    root = tmp_path_factory.mktemp("buckets")
    folder = root / BUCKET
    shutil.copytree(GOLDEN, folder / "hf")
    resolved = huggingface.resolve_folder(GOLDEN, (), ())
    huggingface.hf_to_native(GOLDEN, resolved, folder / "run", lambda line: None)
    folders.native_to_t5x(folder / "run", folder / "zarr")
    folders.native_to_t5x(folder / "run", folder / "ocdbt", "ocdbt")
    return root


@pytest.fixture
def bucket(root, monkeypatch):
    with buckets(root, monkeypatch):
        yield f"gs://{BUCKET}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hf", "hf"),
        ("run", "run"),
        pytest.param("zarr", "t5x", marks=pytest.mark.slow),
        pytest.param("ocdbt", "t5x", marks=pytest.mark.slow),
    ],
)
def test_init_from(name, kind, bucket, root):
    config, state = state_of(root / BUCKET / "run")
    source = sources.find_source("INIT_FROM", f"{bucket}/{name}")
    assert source.kind == kind and str(source.folder).startswith(bucket)
    assert len(sources.digest(source)) == 64
    initial.check_source(source, config)
    params = traverse_util.unflatten_dict(dict(initial.iter_host(source, config.student)))
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    placed = initial.start_params(
        source, config.student, jax.tree.map(jax.numpy.zeros_like, state.params)
    )
    jax.tree.map(np.testing.assert_array_equal, placed, state.params)


@pytest.mark.parametrize("name", ["run", pytest.param("zarr", marks=pytest.mark.slow)])
def test_continue_from(name, bucket, root):
    config, state = state_of(root / BUCKET / "run")
    source = sources.find_source("CONTINUE_FROM", f"{bucket}/{name}")
    initial.check_source(source, config)
    begun = jax.tree.map(jax.numpy.zeros_like, state)
    continued = initial.continued_state(source, config, begun)
    jax.tree.map(
        np.testing.assert_array_equal,
        (continued.step, continued.params, continued.opt_state),
        (state.step, state.params, state.opt_state),
    )


def test_convert(bucket, root, tmp_path):
    _, state = state_of(root / BUCKET / "run")
    argv = ["convert", "--from=hf", f"--checkpoint={bucket}/hf", f"--run_dir={tmp_path}/run"]
    assert cli.main(argv) == 0
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "run")[1].params, state.params)


def test_continue_from_of_the_t5x_engine(bucket, root, tmp_path):
    """T5X restores a path in a bucket itself, if it names one checkpoint."""
    train = state_of(root / BUCKET / "run")[0].train
    check_steps(tmp_path, f"{bucket}/zarr/checkpoint_0", train)
    with pytest.raises(UserError, match=r"such as gs://bucket/zarr/checkpoint_0$"):
        check_steps(tmp_path, f"{bucket}/zarr", train)


def test_nothing_there(bucket):
    with pytest.raises(UserError, match=r"INIT_FROM = 'gs://bucket/none', which does not exist;"):
        sources.find_source("INIT_FROM", f"{bucket}/none")
