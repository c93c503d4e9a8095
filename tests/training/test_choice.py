"""Which checkpoint answers, and what a run leaves when it stops or is traced."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.config import resolve
from distill.engines import native
from distill.errors import UserError
from distill.inference import scoring
from distill.training.checkpoints import Checkpoints
from distill.training.saved_checkpoints import SavedCheckpoints
from distill.training.step import TrainState
from distill.training.trainer import make_trainer

EXPERIMENT = "tickets_step_by_step"


def _state(step: int) -> TrainState:
    noise = np.random.default_rng(0).normal(size=10_000)  # does not compress
    params = {"kernel": jnp.full((2,), step, jnp.float32), "noise": jnp.asarray(noise)}
    key = jnp.zeros(2, jnp.uint32)
    return TrainState(jnp.asarray(step, jnp.int32), params, optax.EmptyState(), key)


def _train(folder, accuracies, last, keep=1, best=True, save_period=2, stop=None) -> list[int]:
    """Saves as `fit` does, from the newest checkpoint on.

    Args:
      folder: the run folder.
      accuracies: the evaluations, by step.
      last: the last step.
      keep: as of `Checkpoints`.
      best: as of `Checkpoints`.
      save_period: steps between checkpoints.
      stop: the run is killed at this step, after the evaluation and before the save.

    Returns:
      The bytes of the checkpoints after each save.
    """
    sizes = []
    with Checkpoints(folder, keep, best) as checkpoints:
        start = checkpoints.latest_step or 0
        checkpoints.prune()
        for step in range(start + 1, last + 1):
            accuracy = accuracies.get(step)
            if step == stop:
                break
            if step % save_period == 0 or step == last or checkpoints.is_best(accuracy):
                checkpoints.save(_state(step), accuracy)
                checkpoints.wait()
                sizes.append(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))
    return sizes


def _kept(folder) -> dict[str, dict[str, float] | None]:
    """The metrics of each checkpoint, by the name of its folder; whatever else is there too."""
    steps = {path.name: path / "metrics/metrics" for path in (folder / "checkpoints").iterdir()}
    return {
        name: json.loads(path.read_text()) if path.exists() else None
        for name, path in sorted(steps.items())
    }


def _restored(folder, best: bool) -> int:
    state = SavedCheckpoints(folder).restore(_state(0), best)
    params = SavedCheckpoints(folder).restore_params(_state(0).params, best)
    assert float(state.params["kernel"][0]) == float(params["kernel"][0]) == int(state.step)
    return int(state.step)


@pytest.mark.parametrize(
    ("accuracies", "best", "newest"),
    [
        ({1: 0.2, 2: 0.5, 3: 0.4}, 2, [5]),
        ({1: 0.2, 3: 0.5, 4: 0.4}, 3, [5]),  # 3 is no step of SAVE_PERIOD
        ({1: 0.2, 2: 0.5, 3: 0.4, 4: 0.5}, 4, [5]),  # of equals the latest
        ({2: 0.0, 3: 0.0, 5: 0.0}, 5, [5]),
        ({1: 0.9, 2: 0.1, 5: 0.1}, 1, [5]),
        ({1: 0.1 + 0.2, 3: 0.3}, 1, [5]),  # not equal: the metric is exact
        ({1: 0.2, 2: 0.5, 3: 0.4}, 2, [4, 5]),
        ({1: 0.9}, 1, [2, 4, 5]),
    ],
)
def test_the_best_is_kept_beside_the_newest(tmp_path, accuracies, best, newest):
    _train(tmp_path, accuracies, last=5, keep=len(newest))
    metrics = {s: {"accuracy": a, "step": s} for s, a in accuracies.items()}
    assert _kept(tmp_path) == {str(s): metrics.get(s) for s in sorted({best, *newest})}
    assert _restored(tmp_path, best=True) == best
    assert _restored(tmp_path, best=False) == 5


def test_the_newest_answers_until_one_is_evaluated(tmp_path, caplog):
    _train(tmp_path, {}, last=3)
    assert not caplog.records  # Orbax warns of each save without metrics
    assert _kept(tmp_path) == {"3": None}
    assert _restored(tmp_path, best=True) == 3


def test_without_best_accuracies_do_not_count(tmp_path):
    _train(tmp_path, {1: 0.9, 2: 0.8, 3: 0.1}, last=4, best=False)
    assert list(_kept(tmp_path)) == ["4"]


@pytest.mark.parametrize("keep", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_chooses_like_the_undisturbed_one(tmp_path, keep):
    accuracies = {1: 0.3, 2: 0.1, 3: 0.6, 5: 0.6, 6: 0.2, 7: 0.5}
    _train(tmp_path / "whole", accuracies, last=8, keep=keep)
    want = _kept(tmp_path / "whole")
    assert "5" in want and "8" in want
    for stop in range(1, 10):  # 9: the run ended, and only deletions were missing
        folder = tmp_path / f"killed{stop}"
        # With so many kept it is as if the kill came before anything was deleted.
        _train(folder, accuracies, last=8, keep=9, stop=stop)
        half_written = folder / f"checkpoints/{stop}.orbax-checkpoint-tmp"
        half_written.mkdir()
        (half_written / "part").write_text("x")
        half_deleted = folder / "checkpoints/1/default"
        if stop > 2:  # the best one when it was written
            shutil.rmtree(half_deleted)
        _train(folder, accuracies, last=8, keep=keep)
        assert _kept(folder) == want, stop
        assert _restored(folder, best=True) == 5


_EARLY, _ALWAYS = {3: 0.9, 10: 0.1, 30: 0.2}, dict.fromkeys(range(1, 51), 0.5)


@pytest.mark.parametrize(
    ("accuracies", "best", "kept"),
    [
        (_EARLY, True, {"3", "49", "50"}),
        (_ALWAYS, True, {"49", "50"}),
        pytest.param(_EARLY, False, {"49", "50"}, marks=pytest.mark.slow),
    ],
)
def test_the_folder_does_not_grow(tmp_path, accuracies, best, kept):
    """50 saves; Orbax writes some 300 bytes more or less of each, at random."""
    sizes = _train(tmp_path, accuracies, last=50, keep=2, best=best, save_period=1)
    assert max(sizes) < 1.02 * max(sizes[2:12]) and len(sizes) == 50
    assert set(_kept(tmp_path)) == kept


def test_a_reader_changes_nothing(tmp_path):
    saved = SavedCheckpoints(tmp_path / "none")
    assert (saved.latest_step, saved.best_step) == (None, None)
    with pytest.raises(UserError, match=r"no checkpoint in .*none/checkpoints"):
        saved.restore(_state(0))
    assert not (tmp_path / "none").exists()
    _train(tmp_path, {1: 0.9}, last=4, keep=9)
    (tmp_path / "checkpoints/6.orbax-checkpoint-tmp").mkdir()  # another process writes it
    assert _restored(tmp_path, best=False) == 4
    assert list(_kept(tmp_path)) == ["1", "2", "4", "6.orbax-checkpoint-tmp"]


def test_the_best_checkpoint_is_scored_and_answers(micro, tmp_path):
    overrides = (*micro, "CHECKPOINT='best'", "EVAL_PERIOD=2", "LEARNING_RATE=0.02")
    results = native.train(resolve.resolve([EXPERIMENT], overrides), tmp_path, lambda line: None)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").open())
    scores = {x["step"]: x["validation_accuracy"] for x in lines if "validation_accuracy" in x}
    assert list(scores) == [2, 4, 6, 8, 10, 12]
    best = max(scores, key=lambda step: (scores[step], step))
    assert results["checkpoint_step"] == best
    assert _kept(tmp_path) == {
        str(step): {"accuracy": scores[step], "step": step} for step in (best, 12)
    }
    assert scoring.evaluate(tmp_path, "validation")[0]["accuracy"] == scores[best]
    assert scoring.evaluate(tmp_path, "test")[0]["accuracy"] == results["accuracy"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("CHECKPOINT='beast'",), "closest: best"),
        (("CHECKPOINT='best'", "EVAL_PERIOD=0"), "expected EVAL_PERIOD > 0"),
        (("CHECKPOINT='best'", "VALIDATION_FRACTION=0.0"), "there are no validation rows"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(micro, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        resolved = resolve.resolve([EXPERIMENT], (*micro, *overrides))
        native.train(resolved, tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_rows(micro, tmp_path):
    overrides = (*micro, "LEARNING_RATE=1e30", "CLIP_NORM=0.0")
    resolved = resolve.resolve([EXPERIMENT], overrides)
    with pytest.raises(
        UserError, match=r"the loss is (nan|inf) at step \d+: .*not_finite.json .*set CLIP_NORM"
    ):
        native.train(resolved, tmp_path / "run", lambda line: None)
    told = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    assert 1 < told["step"] <= 12 and {"loss_label", "loss_rationale", "grad_norm"} <= told.keys()
    from distill.data import cache as caches

    cache = caches.load_cache(resolved.run.data)
    indices = make_trainer(resolved.run, cache).stream.rows(told["step"] - 1)
    assert told["rows"] == [cache.rows["train"][index].id for index in indices]


@pytest.mark.slow  # test_profile.py asks for one as well
def test_a_profile_is_written_when_asked_for(micro, tmp_path):
    resolved = resolve.resolve([EXPERIMENT], (*micro, "EVAL_PERIOD=0"))
    native.train(resolved, tmp_path / "run", lambda line: None, profile=True)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
