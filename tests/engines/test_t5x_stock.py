"""The t5x engine with stock T5X itself: parsing, optimizer, z_loss, a whole run."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import re
import sys

import numpy as np
import pytest
from etils import epath

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from parity import CONFIG, needs_t5x, t5x_model
from test_t5x import EXPERIMENT, cache_dir, run  # noqa: F401  (a fixture of this file too)

from distill.config import files
from distill.engines.t5x import train as engine
from distill.errors import UserError
from distill.inference import scoring, t5x_run


def parse_gin(paths, text):
    """Makes these files and this text gin's configuration, as T5X's scripts do."""
    import gin

    gin.clear_config()
    gin.add_config_file_search_path(str(files.gin_root()))
    gin.parse_config_files_and_bindings(list(paths), text, finalize_config=False)


@needs_t5x
@pytest.mark.t5x
def test_every_experiment_parses_with_t5xs_own_train(monkeypatch):
    import gin
    import t5x.train

    # T5X's gin files name its training script as the main program.
    monkeypatch.setitem(sys.modules, "__main__", t5x.train)
    engine_file = str(files.gin_root() / "gin/engines/t5x.gin")
    for name in files.list_gin_files("experiments"):
        parse_gin([engine_file, files.resolve_path(name)], "")
        assert gin.query_parameter("train/DatasetConfig.mixture_or_task_name")
    for script, part in (("eval", "evaluate"), ("infer", "predict")):
        monkeypatch.setitem(sys.modules, "__main__", importlib.import_module(f"t5x.{script}"))
        engine_file = str(files.gin_root() / f"gin/engines/t5x_{part}.gin")
        parse_gin([engine_file, files.resolve_path(EXPERIMENT)], "")
        assert gin.query_parameter("infer_eval/DatasetConfig.mixture_or_task_name")
    gin.query_parameter("infer.shard_id")  # which T5X's script wants bound
    gin.clear_config()


@needs_t5x
@pytest.mark.t5x
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.0, "clip_norm": 0.0}])
def test_the_native_adafactor_takes_the_steps_of_t5xs_own(settings):
    """Matrices of unequal sides, clipping, decay and a schedule, which the golden files lack."""
    import dataclasses

    import jax.numpy as jnp
    import optax

    from distill.training.optimizer import make_optimizer, make_schedule, make_t5x_optimizer

    config = run("OPTIMIZER=adafactor", "WEIGHT_DECAY=0.1", "TRAIN_STEPS=9").run.optimizer
    config = dataclasses.replace(config, **settings)
    ours, schedule = make_optimizer(config), make_schedule(config)
    shapes = {"wide": (130, 200), "tall": (200, 130), "thin": (8, 200), "vector": (200,)}
    rng = np.random.default_rng(0)

    def draw(size):
        return {n: jnp.asarray(rng.normal(0, size, s), jnp.float32) for n, s in shapes.items()}

    params = draw(1.0)
    state, theirs = ours.init(params), make_t5x_optimizer(config).create(params)
    for step in range(5):
        grads = draw(10.0**-step)
        updates, state = ours.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        theirs = theirs.apply_gradient(grads, learning_rate=schedule(step))
        for name in shapes:
            np.testing.assert_allclose(params[name], theirs.target[name], rtol=1e-5, atol=1e-6)


@needs_t5x
@pytest.mark.t5x
def test_t5x_starts_from_the_initial_values_that_the_macros_give(monkeypatch):
    """EMBED_INIT and DIRECTION_INIT, which T5X's network lacks; all else is T5X's own."""
    import flax
    import gin
    import jax
    import t5x.train

    from distill.student.relative_bias import direction_bias

    changed = ("token_embedder", "embedding"), ("encoder", "relpos_bias", "rel_embedding")

    def initial(**settings: float) -> tuple[list[np.ndarray], dict]:
        model = t5x_model(CONFIG, 1.0, **settings)
        shapes = {"encoder_input_tokens": (2, 6), "decoder_input_tokens": (2, 3)}
        variables = jax.jit(lambda rng: model.get_initial_variables(rng, shapes))(jax.random.key(3))
        flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(variables["params"]))
        return [np.asarray(flat.pop(name)) for name in changed], flat

    (embedding, bias), others = initial()
    (scaled, turned), same = initial(embed_init=0.1, direction_init=1.5)
    np.testing.assert_allclose(scaled, embedding * 0.1, rtol=1e-6)
    np.testing.assert_allclose(turned - bias, direction_bias(len(bias), 1.5), atol=1e-6)
    assert others.keys() == same.keys()
    for name, value in others.items():
        np.testing.assert_array_equal(same[name], value)

    monkeypatch.setitem(sys.modules, "__main__", t5x.train)
    parse_gin([str(files.gin_root() / "gin/engines/t5x.gin"), files.resolve_path(EXPERIMENT)], "")
    for macro in ("EMBED_INIT", "DIRECTION_INIT"):
        bound = gin.query_parameter(f"TaskLossModel.{macro.lower()}")
        assert bound.selector == "gin.macro" and macro in str(bound)
    gin.clear_config()


@needs_t5x
@pytest.mark.t5x
def test_z_loss_is_t5xs():
    from t5x.losses import cross_entropy_with_logits

    from distill.student.losses import token_nll

    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (2, 5, 11)).astype("f4"), rng.integers(0, 11, (2, 5))
    expected, _ = cross_entropy_with_logits(logits, np.eye(11, dtype="f4")[targets], 0.2)
    np.testing.assert_allclose(token_nll(logits, targets, 0.2), expected, rtol=1e-5)


@needs_t5x
@pytest.mark.t5x
@pytest.mark.parametrize(
    "settings",
    [
        ["CHECKPOINT=best", "EVAL_PERIOD=2"],
        ["WEIGHTING=paired_batches", "PACK=True", "MICROBATCHES=2", "USE_CACHED=True"],
    ],
)
def test_stock_t5x_trains_decodes_and_leaves_results(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    assert os.environ["DISTILL_CACHE_DIR"]
    lines: list[str] = []
    folder = tmp_path / "run"
    resolved = run(*settings)
    results = engine.train(resolved, folder, lines.append)
    assert results == json.loads((folder / "results.json").read_text())
    described = json.loads((folder / "run.json").read_text())
    assert described["rows"]["test"] == results["n_test"] and len(described["t5x_commit"]) >= 40
    assert f"{results['accuracy']:.3f}" in (folder / "MODEL_CARD.md").read_text()
    assert {k: results[k] for k in ("engine", "steps", "n_test", "label_weight", "labels")} == {
        "engine": "t5x",
        "steps": 3,
        "n_test": 20,
        "label_weight": 0.3,
        "labels": 40,
    }
    info = (folder / "t5x" / "model-info.txt").read_text()
    assert f"Total number of parameters: {results['parameters']}" in info
    records = [json.loads(r) for r in (folder / "predictions_test.jsonl").read_text().splitlines()]
    assert np.mean([r["correct"] for r in records]) == results["accuracy"]
    # The native engine reads the checkpoint that was scored, and answers the same, but that T5X
    # stops where every true label has ended.
    scores, answers = scoring.evaluate(folder, "test")
    texts = [r["prediction"].split() for r in records]
    assert [p.prediction.split()[: len(t)] for p, t in zip(answers, texts, strict=True)] == texts
    assert any(texts) and scores["accuracy"] == results["accuracy"]
    assert results["checkpoint_step"] == t5x_run.chosen_step(folder, resolved.run)
    assert (folder / "t5x_test").is_dir() == (resolved.run.train.checkpoint == "best")
    assert any(line.startswith("step 3/3  loss ") for line in lines)
    (last,) = [line for line in lines if line.startswith("step 3/3  loss ")]
    loss, label, rationale = (
        float(re.search(rf"{name} ([.\d]+)", last)[1])
        for name in ("  loss", "label loss", "rationale loss")
    )
    assert 0.3 * label + 0.7 * rationale == pytest.approx(loss, rel=2e-3)
    assert (folder / "t5x" / "checkpoint_3").is_dir()
    assert engine.train(resolved, folder, lines.append) == results  # read again, not trained again
    with pytest.raises(UserError, match="another configuration"):
        engine.train(run("SEED=1"), folder, lines.append)


@needs_t5x
@pytest.mark.t5x
def test_stock_t5x_splits_the_model_over_devices_as_the_macros_say(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    losses, logs = {}, {}
    mesh = ["MODEL_PARALLEL=2", "PARAMETER_SHARDING=zero", "REMAT=minimal", "SCAN_LAYERS=True"]
    for devices, settings in ((1, []), (4, mesh)):
        monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")
        folder = epath.Path(tmp_path / str(devices))
        folder.mkdir()
        engine.run_child(
            engine.command(run(*settings), folder), folder / engine.LOG, 3, lambda line: None
        )
        logs[devices] = (folder / engine.LOG).read_text()
        found = re.findall(r"\] collection=train .* loss=([\d.]+), loss_label", logs[devices])
        losses[devices] = [float(loss) for loss in found]
    assert "global_mesh devices shape: (2, 2)" in logs[4]
    assert len(losses[1]) == 3
    np.testing.assert_allclose(losses[4], losses[1], rtol=1e-5)
