"""A damaged checkpoint is never used: an intact one takes its place, and a line says so."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from etils import epath

from distill import cli
from distill.config import resolve
from distill.engines import native
from distill.errors import UserError
from distill.training import provenance
from distill.training.checkpoints import Checkpoints
from distill.training.saved_checkpoints import SavedCheckpoints
from distill.training.step import TrainState

EXPERIMENT = "tickets_step_by_step"


def _state(step: int) -> TrainState:
    noise = np.random.default_rng(step).normal(size=1000)
    params = {"kernel": jnp.full((2,), step, jnp.float32), "noise": jnp.asarray(noise)}
    key = jnp.zeros(2, jnp.uint32)
    return TrainState(jnp.asarray(step, jnp.int32), params, optax.EmptyState(), key)


def _save(folder: pathlib.Path, accuracies: dict[int, float | None], keep: int) -> None:
    with Checkpoints(folder, keep, best=any(accuracies.values())) as checkpoints:
        for step, accuracy in accuracies.items():
            checkpoints.save(_state(step), accuracy)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """Checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved")
    _save(folder, {1: None, 2: None}, keep=2)
    return folder


def _flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": _flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": pathlib.Path.unlink,
}


def _restore(folder: pathlib.Path, best: bool = False) -> tuple[int, list[str]]:
    lines: list[str] = []
    saved = SavedCheckpoints(folder, lines.append)
    state = saved.restore(_state(0), best)
    said = list(lines)
    params = saved.restore_params(jax.tree.map(jnp.asarray, _state(0).params), best)
    assert lines == [*said, *said]
    step = int(state.step)
    for name, array in _state(step).params.items():  # to the bit
        assert state.params[name].tobytes() == array.tobytes()
        assert np.asarray(params[name]).tobytes() == array.tobytes()
    return step, said


@pytest.mark.parametrize("kind", DAMAGES)
def test_no_damage_of_any_file_reaches_the_parameters(kind, saved, tmp_path):
    names = [p.relative_to(saved) for p in saved.rglob("checkpoints/2/**/*") if p.is_file()]
    assert len(names) > 12
    steps = {}
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        DAMAGES[kind](folder / name)
        step, lines = _restore(folder)
        steps[name.name] = step
        expected = r"checkpoint 2 is damaged \(.*(file|digests|list).*\): using 1"
        assert step == 2 or re.fullmatch(expected, lines[0]), (name, lines)
    harmless = {"_CHECKPOINT_METADATA", "commit_success.txt"}  # nothing is read from them
    assert {name for name, step in steps.items() if step == 2} <= harmless


def test_without_an_intact_checkpoint_the_message_says_what_to_delete(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    shutil.rmtree(folder / "checkpoints/1")
    _flip(next((folder / "checkpoints/2/default/d").iterdir()))
    expected = r"checkpoint .*/2 is damaged \(the content of file .* has changed\), and there is "
    expected += r"no other checkpoint: copy the run folder again, or delete .*/run and train again"
    with pytest.raises(UserError, match=expected):
        _restore(folder)
    with pytest.raises(UserError, match=expected), Checkpoints(folder, keep=1):
        pass
    assert (folder / "checkpoints/2").exists()


UNCHECKED = (
    "warning: checkpoint {} has no digests.json: its files are used without being compared with "
    "what was written"
)


def test_a_checkpoint_that_lost_its_digests_is_not_used_where_the_run_writes_them(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    (folder / "checkpoints/2/digests.json").unlink()
    assert _restore(folder) == (
        1,
        ["checkpoint 2 is damaged (file digests.json is missing): using 1"],
    )
    (folder / "checkpoints/1/digests.json").unlink()
    (folder / "checkpoints/2").rename(folder / "2")
    assert _restore(folder) == (1, [UNCHECKED.format(1)])


def test_the_only_checkpoint_without_digests_is_damaged_if_its_run_writes_them(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    shutil.rmtree(folder / "checkpoints/1")
    (folder / "checkpoints/2/digests.json").unlink()
    splits = ("train", "validation", "test")
    run = {"files": {}, "bindings": {}, "binding_files": {}, "checkpoint_digests": True}
    run |= {"rows": dict.fromkeys(splits, 1), "row_digests": dict.fromkeys(splits, "")}
    (folder / "run.json").write_text(json.dumps(run))
    expected = r"/2 is damaged \(file digests.json is missing\).*: copy the run folder again, or"
    with pytest.raises(UserError, match=expected):
        _restore(folder)
    provenance.write_run(epath.Path(folder), {"checkpoint_digests": False})  # as in a bucket
    assert _restore(folder) == (2, [UNCHECKED.format(2)])


def test_a_run_that_came_from_a_bucket_and_goes_on_keeps_its_checkpoints(saved, tmp_path):
    folder, lines = tmp_path / "run", []
    shutil.copytree(saved, folder)
    (folder / "checkpoints/1/digests.json").unlink()
    with Checkpoints(folder, keep=2, say=lines.append):
        pass
    assert _restore(folder) == (2, [])
    assert lines == []
    assert (folder / "checkpoints/1").exists()


def test_checkpoints_of_a_run_without_digests_are_read_with_a_line(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    for path in folder.rglob("digests.json"):
        path.unlink()
    assert _restore(folder) == (2, [UNCHECKED.format(2)])
    shutil.rmtree(folder / "checkpoints/2/default")
    step, lines = _restore(folder)
    assert step == 1
    damaged = "checkpoint 2 is damaged (file default/_METADATA is missing): using 1"
    assert lines == [damaged, UNCHECKED.format(1)]


# Files that Orbax parses; `[` without an end exceeds Python's recursion.
PARSED = (
    "_CHECKPOINT_METADATA",
    "default/_METADATA",
    "default/_sharding",
    "default/manifest.ocdbt",
)


@pytest.mark.parametrize("content", [b"[" * 99_999, b"[1]", b"null"], ids=["deep", "list", "null"])
@pytest.mark.parametrize("name", PARSED)
def test_metadata_that_do_not_parse_are_damage_without_digests_too(name, content, saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    for path in folder.rglob("digests.json"):
        path.unlink()
    (folder / "checkpoints/2" / name).write_bytes(content)
    step, lines = _restore(folder)
    assert step == 1
    assert re.fullmatch(
        r"checkpoint 2 is damaged \((file .* cannot be parsed|it cannot be read).*: using 1",
        lines[0],
    )

    lines.clear()
    with Checkpoints(folder, keep=2, say=lines.append) as checkpoints:
        state = checkpoints.restore(_state(0))
        assert int(state.step) == 1
        checkpoints.save(_state(2))  # the step of the damaged one
    assert re.fullmatch(r"checkpoint 2 is .*: moved to .*/damaged_checkpoints/2, using 1", lines[0])
    assert lines[1:] == [UNCHECKED.format(1)]
    assert _restore(folder) == (2, [])


def test_a_damaged_checkpoint_takes_the_place_of_an_earlier_one_of_its_step(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    (folder / "damaged_checkpoints/2/earlier").mkdir(parents=True)
    (folder / "checkpoints/2/default/_METADATA").unlink()
    lines: list[str] = []
    with Checkpoints(folder, keep=2, say=lines.append) as checkpoints:
        assert checkpoints.latest_step == 1
    assert len(lines) == 1 and not (folder / "damaged_checkpoints/2/earlier").exists()
    assert (folder / "damaged_checkpoints/2/default").is_dir()


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(saved, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "2/default/d")

    monkeypatch.setattr(ocp.PyTreeCheckpointer, "restore", refuse)
    template = jax.tree.map(jnp.asarray, _state(0).params)
    lines: list[str] = []
    with pytest.raises(UserError, match=r"^2/default/d cannot be read: Permission denied"):
        SavedCheckpoints(saved, lines.append).restore_params(template)
    assert lines == []


def test_a_damaged_best_checkpoint_is_said_and_the_best_of_the_others_counts(tmp_path):
    _save(tmp_path, {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.1}, keep=2)
    assert _restore(tmp_path, best=True) == (2, [])
    _flip(tmp_path / "checkpoints/2/metrics/metrics")
    lines: list[str] = []
    with Checkpoints(tmp_path, 2, best=True, say=lines.append) as checkpoints:
        assert (checkpoints.best_step, checkpoints.latest_step) == (3, 4)
        assert checkpoints.is_best(0.7) and not checkpoints.is_best(0.6)
        checkpoints.prune()
    assert re.fullmatch(
        r"checkpoint 2 is damaged \(the content of file metrics/metrics has changed\): moved to "
        r".*/damaged_checkpoints/2, using the best of the others",
        lines[0],
    )
    assert (tmp_path / "damaged_checkpoints/2/default").is_dir() and len(lines) == 1


@pytest.fixture(scope="module")
def damaged_run(micro, tmp_path_factory) -> pathlib.Path:
    """A run with checkpoints of steps 8 and 12, of which the newest lost a file."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    native.train(
        resolve.resolve([EXPERIMENT], (*micro, "KEEP_CHECKPOINTS=2")), folder, lambda line: None
    )
    (folder / "checkpoints/12/default/_METADATA").unlink()
    return folder


def test_predict_and_convert_use_an_intact_checkpoint(damaged_run, tmp_path, capsys):
    assert cli.main(["predict", f"--run_dir={damaged_run}", "my fan seems burnt ."]) == 0
    said = "checkpoint 12 is damaged (file default/_METADATA is missing): using 8"
    assert said in capsys.readouterr().err
    argv = ["convert", "--from=native", "--to=t5x", f"--run_dir={damaged_run}", "--json"]
    assert cli.main([*argv, f"--output={tmp_path / 'out'}"]) == 0
    captured = capsys.readouterr()
    assert said in captured.err and json.loads(captured.out)["step"] == 8


def test_a_resumed_run_goes_on_from_the_newest_intact_checkpoint(micro, damaged_run, run_dir):
    """To the bits of the undisturbed run."""
    for name in ("results.json", "predictions_test.jsonl"):
        (damaged_run / name).unlink()
    lines: list[str] = []
    native.train(
        resolve.resolve([EXPERIMENT], (*micro, "KEEP_CHECKPOINTS=2")), damaged_run, lines.append
    )
    said = r"checkpoint 12 is damaged \(file default/_METADATA is missing\): moved to "
    said += r".*/damaged_checkpoints/12, using 8"
    assert any(re.fullmatch(said, line) for line in lines) and "resumed at step 8" in lines
    for name in ("metrics.jsonl", "predictions_test.jsonl"):
        assert (damaged_run / name).read_text() == (run_dir / name).read_text()
