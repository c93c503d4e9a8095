"""INIT_FROM: a new run has the parameters of a checkpoint, and does not need it afterwards."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest
from flax import traverse_util

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pretrained import GOLDEN, LOSS, SETTINGS, configure, metrics, train

from distill.config.resolve import resolve
from distill.convert import initial, sources
from distill.convert.folders import native_to_t5x
from distill.convert.sizes import adopt_sizes
from distill.engines import native
from distill.errors import UserError
from distill.huggingface.read import read_params
from distill.inference.load import load_run
from distill.training import loop
from distill.training.saved_checkpoints import SavedCheckpoints


class Killed(BaseException):
    """The end of a process; nothing catches it."""


def host_params(path, student):
    """The parameters of a checkpoint of any kind."""
    source = sources.find_source("INIT_FROM", str(path))
    return traverse_util.unflatten_dict(dict(initial.iter_host(source, student)))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run folder and its lines."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    said: list[str] = []
    train(GOLDEN, folder, say=said.append)
    return folder, said


@pytest.fixture
def folder(tmp_path):
    """A copy of the folder, to be changed."""
    return pathlib.Path(shutil.copytree(GOLDEN, tmp_path / "checkpoint"))


def equal(one, other) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other))) and (
        jax.tree.structure(one) == jax.tree.structure(other)
    )


def test_the_loss_before_the_first_step_is_that_of_transformers(undisturbed):
    first, *_, last = metrics(undisturbed[0])
    assert first["loss_label"] == pytest.approx(LOSS["all_rows"]["label"], abs=1e-4)
    assert first["loss_rationale"] == pytest.approx(LOSS["all_rows"]["rationale"], abs=1e-4)
    assert last["loss"] < first["loss"] - 0.1  # and training goes on from it


def test_the_run_records_what_it_started_from(undisturbed):
    folder, said = undisturbed
    recorded = json.loads((folder / "run.json").read_text())["initial"]
    source = sources.find_source("INIT_FROM", str(GOLDEN))
    assert recorded == {
        "macro": "INIT_FROM",
        "path": str(GOLDEN),
        "kind": "hf",
        "digest": sources.digest(source),
        "step": None,
    }
    assert f"INIT_FROM = {str(GOLDEN)!r}" in (folder / "config.gin").read_text()
    assert str(GOLDEN) in (folder / "MODEL_CARD.md").read_text()
    assert any("spiece.model" in line for line in said)
    assert f"starting from INIT_FROM = {str(GOLDEN)!r}, a Hugging Face folder" in said
    assert SavedCheckpoints(folder).latest_step == 4
    vocabulary = folder / "vocabulary" / "sentencepiece.model"
    assert vocabulary.read_bytes() == (GOLDEN / "spiece.model").read_bytes()


def _vanish(folder):
    shutil.rmtree(folder)


def _change(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-64] + bytes(64))
    (folder / "config.json").write_text("{}")
    (folder / "spiece.model").write_bytes(b"another")


@pytest.mark.parametrize(
    ("steps", "harm"),
    [
        (0, _vanish),
        (2, _change),
        pytest.param(0, _change, marks=pytest.mark.slow),
        pytest.param(2, _vanish, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_resumes_does_not_read_it_again(
    steps, harm, folder, undisturbed, tmp_path, monkeypatch
):
    """Killed after the start was saved, or after two steps."""
    taken = loop.Trainer.train_step

    def step(self, state, batch):
        if int(state.step) == steps:
            raise Killed
        return taken(self, state, batch)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Trainer, "train_step", step)
        train(folder, tmp_path / "run")
    assert SavedCheckpoints(tmp_path / "run").latest_step == steps
    harm(folder)
    said: list[str] = []
    lines = train(folder, tmp_path / "run", say=said.append)
    assert f"resumed at step {steps}" in said
    assert not any(line.startswith("starting from") for line in said)
    assert lines == metrics(undisturbed[0])
    assert equal(load_run(tmp_path / "run").params, load_run(undisturbed[0]).params)
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert f"INIT_FROM = {str(folder)!r}" in card


def test_before_its_first_checkpoint_a_run_accepts_the_same_files_only(
    folder, tmp_path, monkeypatch
):
    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(initial, "start_params", killed)
        train(folder, tmp_path / "run")
    kept = pathlib.Path(shutil.copytree(folder, tmp_path / "kept"))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"was started from .*changed since.*no checkpoint of its"):
        train(folder, tmp_path / "run")
    _vanish(folder)
    with pytest.raises(UserError, match="does not exist"):
        train(folder, tmp_path / "run")
    shutil.copytree(kept, folder)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["initial"]["path"] == str(folder)
    with pytest.raises(Killed), monkeypatch.context() as patch:  # goes on to read it again
        patch.setattr(initial, "start_params", killed)
        train(folder, tmp_path / "run")


def test_a_finished_run_does_not_need_it(folder, tmp_path):
    before = train(folder, tmp_path / "run", "TRAIN_STEPS=1")
    _vanish(folder)
    assert train(folder, tmp_path / "run", "TRAIN_STEPS=1") == before
    with pytest.raises(UserError, match=r"another configuration .INIT_FROM: .*checkpoint'.*now"):
        train(GOLDEN, tmp_path / "run", "TRAIN_STEPS=1")


@pytest.mark.parametrize("layout", ["zarr", "ocdbt", "scanned"])
def test_a_t5x_checkpoint_gives_the_same_parameters(layout, undisturbed, tmp_path):
    folder, _ = undisturbed
    is_scanned = layout == "scanned"
    path = native_to_t5x(folder, tmp_path, "zarr" if is_scanned else layout, is_scanned)
    config = configure(GOLDEN, tmp_path).run
    expected = load_run(folder).params
    for source in (path, folder):
        assert equal(host_params(source, config.student), expected)
    assert equal(host_params(GOLDEN, config.student), read_params(GOLDEN, config.student))


@pytest.mark.parametrize(
    ("kind", "scan"),
    [
        ("hf", False),
        ("t5x", False),
        ("run", False),
        ("t5x", True),
        pytest.param("hf", True, marks=pytest.mark.slow),
        pytest.param("run", True, marks=pytest.mark.slow),
    ],
)
def test_a_run_starts_with_them_at_step_0_and_with_a_new_optimizer(
    kind, scan, undisturbed, tmp_path, monkeypatch
):
    path = {"hf": GOLDEN, "run": undisturbed[0]}.get(kind) or native_to_t5x(
        undisturbed[0], tmp_path / "converted"
    )
    sizes = [f"VOCAB_SIZE={88}", "VOCABULARY=sentencepiece"] if kind == "t5x" else []
    names = ["EMBED_DIM=16", "NUM_HEADS=3", "HEAD_DIM=4", "MLP_DIM=24", "NUM_ENCODER_LAYERS=2"]
    sizes += [*names, "NUM_DECODER_LAYERS=1"] if kind == "t5x" else []
    sizes += [f"VOCABULARY_PATH={GOLDEN}/spiece.model"] if kind == "t5x" else []
    resolved = configure(path, tmp_path / "run", f"SCAN_LAYERS={scan}", *sizes)
    states = []

    def stopped(self, state, batch):
        states.append(jax.device_get(state))
        raise Killed

    monkeypatch.setattr(loop.Trainer, "train_step", stopped)
    with pytest.raises(Killed):
        native.train(resolved, tmp_path / "run", lambda line: None)
    (state,) = states
    assert state.step == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    student = configure(GOLDEN, tmp_path, f"SCAN_LAYERS={scan}").run.student
    expected = host_params(GOLDEN if kind == "hf" else undisturbed[0], student)
    assert equal(state.params, expected)


def test_the_sizes_of_a_folder_are_macros():
    from distill.config.resolve import read_macros

    settings = (*SETTINGS, f"INIT_FROM={GOLDEN}")
    read, _, _ = read_macros(["jsonl_pretrained"], settings, None, adopt_sizes)
    content = json.loads((GOLDEN / "config.json").read_text())
    for macro, key in (
        ("EMBED_DIM", "d_model"),
        ("HEAD_DIM", "d_kv"),
        ("VOCAB_SIZE", "vocab_size"),
    ):
        assert read.value(macro) == content[key]
        assert read.explain(macro)[-1].where == str(GOLDEN / "config.json")
    assert read.value("TIE_EMBEDDINGS") is False
    assert read.value("VOCABULARY_PATH") == str(GOLDEN / "spiece.model")
    again = (
        *settings,
        "EMBED_DIM=16",
        "MLP_ACTIVATIONS=['gelu', 'linear']",
        "SCALE_TIED_LOGITS=False",
    )
    run = resolve(["jsonl_pretrained"], again, None, adopt_sizes).run
    assert run.student.embed_dim == 16  # the same size may be set


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        (
            ["gin/sizes/small.gin"],
            [],
            r"gin/sizes/small\.gin sets .*EMBED_DIM = 512.*config\.json "
            r"sets .*EMBED_DIM = 16.*: the sizes of a run with INIT_FROM.*Leave out --size",
        ),
        ([], ["VOCAB_SIZE=96"], r"--gin\.VOCAB_SIZE sets VOCAB_SIZE = 96; .*VOCAB_SIZE = 88"),
        ([], ["TIE_EMBEDDINGS=True"], r"sets TIE_EMBEDDINGS = True; .*TIE_EMBEDDINGS = False"),
    ],
)
def test_other_sizes_are_refused(names, overrides, message):
    with pytest.raises(UserError, match=message):
        resolve(
            ["jsonl_pretrained", *names],
            (*SETTINGS, f"INIT_FROM={GOLDEN}", *overrides),
            None,
            adopt_sizes,
        )


def _without_config(folder):
    (folder / "config.json").unlink()


def _truncated(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def _pickle_alone(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _of_another_vocabulary(folder):
    """Two pieces in each other's place, which no probe of a few sentences can see."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString((folder / "spiece.model").read_bytes())
    one, other = model.pieces[20], model.pieces[21]
    one.piece, other.piece = other.piece, one.piece
    (folder.parent / "other.model").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_vanish, "does not exist; expected a Hugging Face folder"),
        (_without_config, r"has model\.safetensors but no config\.json"),
        (_truncated, r"model\.safetensors"),
        (_pickle_alone, r"pytorch_model\.bin alone, a pickle"),
        (_of_another_vocabulary, r"has the piece .* at id 20, but .*other\.model has .*fit only"),
    ],
)
def test_what_is_no_checkpoint_is_refused_before_anything_is_written(
    change, message, folder, tmp_path
):
    change(folder)
    other = tmp_path / "other.model"
    more = (f"VOCABULARY_PATH={other}",) if other.exists() else ()
    with pytest.raises(UserError, match=message):
        train(folder, tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_with_another_vocabulary_is_refused(undisturbed, folder, tmp_path):
    _of_another_vocabulary(folder)
    with pytest.raises(UserError, match=r"trained with another vocabulary .*other\.model gives"):
        train(undisturbed[0], tmp_path / "run", f"VOCABULARY_PATH={tmp_path / 'other.model'}")
    assert not (tmp_path / "run").exists()


def test_a_path_within_a_run_folder_is_led_to_the_folder(undisturbed, tmp_path):
    run = undisturbed[0]
    for path in (run / "checkpoints", run / "checkpoints" / "4"):
        with pytest.raises(UserError, match=rf"inside a run folder: give {run}"):
            train(path, tmp_path / "run")
    with pytest.raises(UserError, match="which is a file"):
        train(run / "run.json", tmp_path / "run")
    with pytest.raises(UserError, match="hf download google/flan-t5-small --local-dir FOLDER"):
        train("google/flan-t5-small", tmp_path / "run")
