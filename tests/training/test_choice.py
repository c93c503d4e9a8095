"""Which checkpoint answers, and what a run leaves when it stops or is traced."""

import json

import jax.numpy as jnp
import optax
import pytest

from distill.config import resolve
from distill.engines import native
from distill.errors import UserError
from distill.inference import load
from distill.training.checkpoints import BestCheckpoint
from distill.training.loop import make_trainer
from distill.training.step import TrainState

EXPERIMENT = "tickets_step_by_step"


def _state(step: int) -> TrainState:
    params = {"kernel": jnp.full((2,), step, jnp.float32)}
    key = jnp.zeros(2, jnp.uint32)
    return TrainState(jnp.asarray(step, jnp.int32), params, optax.EmptyState(), key)


def _best_step(folder, accuracies: dict[int, float], start=0, past=-1.0) -> int:
    with BestCheckpoint(folder, start, past) as best:
        for step, accuracy in accuracies.items():
            best.offer(_state(step), accuracy)
        state = best.restore(_state(0))
    assert float(state.params["kernel"][0]) == int(state.step)
    return int(state.step)


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ({1: 0.2, 2: 0.5, 3: 0.4}, 2),
        ({1: 0.2, 2: 0.5, 3: 0.4, 4: 0.5}, 4),  # of equals the latest
        ({1: 0.0, 2: 0.0}, 2),
        ({1: 0.9, 2: 0.1}, 1),
    ],
)
def test_the_best_is_kept(tmp_path, accuracies, chosen):
    assert _best_step(tmp_path, accuracies) == chosen


def test_a_resumed_run_chooses_like_the_undisturbed_one(tmp_path):
    accuracies = {1: 0.3, 2: 0.1, 3: 0.6, 4: 0.6, 5: 0.2}
    want = _best_step(tmp_path / "whole", accuracies)
    for killed in (1, 2, 3, 4):  # the best is written up to here, the run goes on from step 2
        folder = tmp_path / f"killed{killed}"
        _best_step(folder, {s: a for s, a in accuracies.items() if s <= max(killed, 2)})
        rest = {s: a for s, a in accuracies.items() if s > 2}
        assert _best_step(folder, rest, start=2, past=0.3) == want


def test_the_best_checkpoint_is_scored_and_answers(micro, tmp_path):
    overrides = (*micro, "CHECKPOINT='best'", "EVAL_PERIOD=2", "LEARNING_RATE=0.02")
    results = native.train(resolve.resolve([EXPERIMENT], overrides), tmp_path, lambda line: None)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").open())
    scores = {x["step"]: x["validation_accuracy"] for x in lines if "validation_accuracy" in x}
    assert list(scores) == [2, 4, 6, 8, 10, 12]
    best = max(scores, key=lambda step: (scores[step], step))
    assert results["checkpoint_step"] == best
    assert load.evaluate(tmp_path, "validation")[0]["accuracy"] == scores[best]
    assert load.evaluate(tmp_path, "test")[0]["accuracy"] == results["accuracy"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("CHECKPOINT='beast'",), "closest: best"),
        (("CHECKPOINT='best'", "EVAL_PERIOD=0"), "set EVAL_PERIOD"),
        (("CHECKPOINT='best'", "VALIDATION_FRACTION=0.0"), "no row is for validation"),
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
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+: .*not_finite.json"):
        native.train(resolved, tmp_path / "run", lambda line: None)
    told = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    assert 1 < told["step"] <= 12 and {"loss_label", "loss_rationale", "grad_norm"} <= told.keys()
    from distill.data import cache as caches

    cache = caches.load_cache(resolved.run.data)
    indices = make_trainer(resolved.run, cache).stream.rows(told["step"] - 1)
    assert told["rows"] == [cache.rows["train"][index].id for index in indices]


def test_a_profile_is_written_when_asked_for(micro, tmp_path):
    resolved = resolve.resolve([EXPERIMENT], (*micro, "EVAL_PERIOD=0"))
    native.train(resolved, tmp_path / "run", lambda line: None, profile=True)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
