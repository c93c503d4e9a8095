"""T5X checkpoint folders of both layouts, layers one by one and stacked; no T5X is needed."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import serialization

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "engines"))
import parity

from distill.convert import folders, layers, t5x_files
from distill.convert.states import from_t5x, params_from_t5x, to_t5x
from distill.errors import UserError
from distill.training.optimizer import make_optimizer

SCANNED = dataclasses.replace(parity.CONFIG, scan_layers=True)


def tree() -> dict:
    params = parity.random_params(parity.CONFIG)
    config = parity.optimizer_config("adafactor")
    return to_t5x(7, params, make_optimizer(config).init(params), config)


def assert_equal(got, expected) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("layout", t5x_files.LAYOUTS)
def test_there_and_back_is_the_same_tree(layout, tmp_path):
    written = tree()
    t5x_files.write_checkpoint(written, epath.Path(tmp_path) / "checkpoint_7", layout)
    assert_equal(t5x_files.read_checkpoint(tmp_path), written)
    assert t5x_files.read_checkpoint(tmp_path, ("target",)).keys() == {"target"}
    assert_equal(t5x_files.read_checkpoint(tmp_path, ("target",))["target"], written["target"])
    assert [child.name for child in tmp_path.iterdir()] == ["checkpoint_7"]


def test_zarr_is_laid_out_as_in_the_public_checkpoints(tmp_path):
    t5x_files.write_checkpoint(tree(), epath.Path(tmp_path) / "checkpoint_7")
    folder = tmp_path / "checkpoint_7"
    array = folder / "target.encoder.layers_1.mlp.wo.kernel"
    described = json.loads((array / ".zarray").read_text())
    assert described["compressor"]["id"] == "gzip" and described["zarr_format"] == 2
    index = serialization.msgpack_restore((folder / "checkpoint").read_bytes())
    assert index["version"] == 3
    spec = index["optimizer"]["target"]["encoder"]["layers_1"]["mlp"]["wo"]["kernel"]
    assert spec["kvstore"] == {"driver": "file", "path": array.name}
    assert index["optimizer"]["state"]["step"] == 7


@pytest.mark.parametrize("form", ["gfile", "gcs", "older"])
def test_specs_of_other_storage_and_of_older_tensorstore_are_read(form, tmp_path):
    written = tree()
    t5x_files.write_checkpoint(written, epath.Path(tmp_path) / "checkpoint_7")
    path = tmp_path / "checkpoint_7" / "checkpoint"
    index = serialization.msgpack_restore(path.read_bytes())

    def changed(spec: dict) -> dict:
        name = spec["kvstore"]["path"]
        if form == "older":
            return {**spec, "kvstore": {"driver": "file"}, "path": name}
        extra = {"bucket": "t5x-dummy-bucket"} if form == "gcs" else {}
        return {**spec, "kvstore": {"driver": form, "path": name, **extra}}

    is_spec = lambda node: isinstance(node, dict) and "kvstore" in node  # noqa: E731
    index = jax.tree.map(lambda n: changed(n) if is_spec(n) else n, index, is_leaf=is_spec)
    index["optimizer"]["state"]["param_states"]["untrained"] = None
    path.write_bytes(serialization.msgpack_serialize(index))
    assert_equal(t5x_files.read_checkpoint(tmp_path), written)


def test_an_array_outside_of_the_checkpoint_is_not_read(tmp_path):
    t5x_files.write_checkpoint({"target": {"a": np.ones(3)}}, epath.Path(tmp_path) / "checkpoint_1")
    path = tmp_path / "checkpoint_1" / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"target.a", b"../../aa"))
    with pytest.raises(UserError, match=r"'\.\./\.\./aa' is outside the checkpoint's folder"):
        t5x_files.read_checkpoint(tmp_path, ("target",))


def test_damage_is_named(tmp_path):
    t5x_files.write_checkpoint(tree(), epath.Path(tmp_path) / "checkpoint_7")
    folder = tmp_path / "checkpoint_7"
    array = folder / "target.decoder.decoder_norm.scale" / ".zarray"
    array.unlink()
    with pytest.raises(UserError, match=r"checkpoint_7 cannot be read(.|\n)*decoder_norm\.scale"):
        t5x_files.read_checkpoint(tmp_path)
    (folder / "checkpoint").write_bytes(b"\xc1 torn")
    with pytest.raises(UserError, match="checkpoint_7 cannot be read"):
        t5x_files.read_checkpoint(folder)


def test_the_newest_counts_and_unfinished_ones_do_not(tmp_path):
    for step in (9, 10):
        t5x_files.write_checkpoint({"target": {}}, epath.Path(tmp_path) / f"checkpoint_{step}")
    (tmp_path / "checkpoint_11").mkdir()
    (tmp_path / "checkpoint_12.tmp").mkdir()
    assert t5x_files.steps(tmp_path) == [9, 10]
    assert t5x_files.find_checkpoint(tmp_path).name == "checkpoint_10"


@pytest.mark.parametrize("name", ["adamw", pytest.param("adafactor", marks=pytest.mark.slow)])
def test_a_scanned_student_has_t5xs_layers_one_by_one(name):
    config = parity.optimizer_config(name)
    optimizer = make_optimizer(config)
    params = layers.stack_layers(parity.random_params(parity.CONFIG))
    grads = jax.tree.map(lambda leaf: jnp.asarray(leaf) * 0.1, params)
    state = optimizer.update(grads, optimizer.init(params), params)[1]
    saved = to_t5x(1, params, state, config)
    assert "layers_1" in saved["target"]["encoder"]
    step, again, opt_state = from_t5x(saved, SCANNED, config)
    assert step == 1
    assert_equal(again, params)
    assert_equal(opt_state, state)
    # The state is the one that the same layers have one by one.
    plain = layers.unstack_layers(params)
    apart = optimizer.update(layers.unstack_layers(grads), optimizer.init(plain), plain)[1]
    expected = to_t5x(1, plain, apart, config)
    assert jax.tree.structure(saved) == jax.tree.structure(expected)
    for ours, theirs in zip(*map(jax.tree.leaves, (saved, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_scalable_t5_and_back():
    params = parity.random_params(parity.CONFIG)
    wide = layers.to_scalable(params)
    heads, size = parity.CONFIG.num_heads, parity.CONFIG.head_dim
    attention = wide["encoder"]["encoder"]["attention"]
    assert attention["query"]["kernel"].shape == (12, 2, heads, size)
    assert attention["out"]["kernel"].shape == (heads, 2, size, 12)
    assert_equal(params_from_t5x(wide, parity.CONFIG), params)
    assert_equal(params_from_t5x(wide, SCANNED), layers.stack_layers(params))
    wide["decoder"]["decoder"]["relpos_bias"]["rel_embedding"][0, 1, 0] += 1
    with pytest.raises(
        UserError, match="decoder/decoder/relpos_bias: the relative biases of the layers differ"
    ):
        params_from_t5x(wide, parity.CONFIG)


def test_the_optimizer_of_scalable_t5_is_refused(tmp_path):
    saved = tree()
    saved["target"] = jax.tree.map(np.asarray, layers.to_scalable(saved["target"]))
    t5x_files.write_checkpoint(saved, epath.Path(tmp_path) / "checkpoint_7")
    with pytest.raises(UserError, match=r"scalable_t5.*--parameters_only"):
        folders.whole_state(tmp_path, config=None)
    assert_equal(folders.t5x_params(tmp_path, parity.CONFIG), tree()["target"])


@pytest.mark.parametrize("layout", t5x_files.LAYOUTS)
def test_a_damaged_checkpoint_is_one_message(layout, tmp_path):
    """Of T5X's own checkpoints nobody has digests: what OCDBT and gzip find is found."""
    whole = epath.Path(tmp_path) / "checkpoint_7"
    t5x_files.write_checkpoint(tree(), whole, layout)
    # None deletes the file; the last one is nested deeper than Python recurses.
    contents = {
        "checkpoint": (b"", b"\x91" * 99_999),
        "target.decoder.decoder_norm.scale/0": (None,),
    }
    if layout == "ocdbt":
        contents = {"state/manifest.ocdbt": (b"",), "state/_METADATA": (None, b"[" * 99_999)}
    damages = [(name, content) for name, each in contents.items() for content in each]
    for number, (name, content) in enumerate(damages):
        folder = tmp_path / f"checkpoint_{number}"
        shutil.copytree(whole, folder)
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=r"\(.*\) and may be damaged: copy it again") as caught:
            t5x_files.read_checkpoint(folder, ("target",))
        assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [("shape", "numbers, expected at most"), ("name", "as a name, expected a string")],
)
def test_what_no_t5_has_is_refused_before_it_is_read(change, message, tmp_path):
    """A shape that would take all memory, and a name that is no text."""
    t5x_files.write_checkpoint(tree(), epath.Path(tmp_path) / "checkpoint_7")
    if change == "shape":
        path = next((tmp_path / "checkpoint_7").glob("target.*/.zarray"))
        described = json.loads(path.read_text())
        path.write_text(json.dumps(described | {"shape": [2**40] * len(described["shape"])}))
    else:
        path = tmp_path / "checkpoint_7" / "checkpoint"
        path.write_bytes(serialization.msgpack_serialize({"target": {1: {2: 3}}, "state": {}}))
    with pytest.raises(UserError, match=message):
        t5x_files.read_checkpoint(tmp_path)
