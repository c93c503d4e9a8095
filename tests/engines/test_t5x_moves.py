"""A run moves from native to stock T5X and back, through folders on disk, and goes on as it was."""

from __future__ import annotations

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import parity
from parity import needs_t5x

from distill.convert import layers, t5x_files
from distill.convert.states import from_t5x, params_from_t5x, to_t5x
from distill.training.optimizer import make_optimizer, make_schedule
from distill.training.step import TrainState, make_train_step

FIRST, SECOND = 17, 34  # the steps after which the run moves


def native_steps(config, batches, step, params, opt_state):
    """Task losses [N, 2] of native's steps on these batches, and the state after them."""
    state = TrainState(
        jnp.int32(step),
        jax.tree.map(jnp.asarray, params),
        jax.tree.map(jnp.asarray, opt_state),
        jax.random.key_data(jax.random.key(0)),
    )
    train_step = make_train_step(
        parity.CONFIG, make_optimizer(config), parity.TASK_WEIGHTS, parity.PAIRS
    )
    state, found = jax.jit(lambda s, b: jax.lax.scan(train_step, s, b))(state, batches)
    return np.asarray(found["losses"]), state


def initializer(config):
    """T5X's own: what restores and saves training states of the model."""
    from t5x import partitioning, utils

    from distill.training.optimizer import make_t5x_optimizer

    model = parity.t5x_model(parity.CONFIG, parity.PAIRS)
    shape = (parity.PAIRS, parity.LENGTH)
    sides = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    return (
        model,
        partitioner,
        utils.TrainStateInitializer(
            optimizer_def=config and make_t5x_optimizer(config),
            init_fn=model.get_initial_variables,
            input_shapes=dict.fromkeys(sides, shape),
            partitioner=partitioner,
        ),
    )


def restored(config, path, model_dir):
    """T5X's model, partitioner, axes, state from a folder, and the manager that restored it."""
    from t5x import utils

    model, partitioner, start = initializer(config)
    state, manager = utils.create_checkpoint_manager_and_restore(
        start,
        partitioner,
        utils.RestoreCheckpointConfig(path=str(path), mode="specific", dtype="float32"),
        str(path),
        fallback_init_rng=None,
        save_checkpoint_cfg=utils.SaveCheckpointConfig(dtype="float32", period=1),
        model_dir=str(model_dir),
        use_orbax=True,
    )
    return model, partitioner, start.train_state_axes, state, manager


def t5x_steps(config, batches, path, model_dir):
    """Task losses [N, 2] of T5X's trainer on these batches; it saves the state after them."""
    from t5x import trainer as trainers

    model_dir.mkdir()
    model, partitioner, axes, state, manager = restored(config, path, model_dir)
    trainer = trainers.Trainer(
        model=model,
        train_state=state,
        partitioner=partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.PRNGKey(0),
        learning_rate_fn=make_schedule(config),
        num_microbatches=None,
    )
    losses = []
    for index in range(len(batches["decoder_task_ids"])):
        batch = parity.weighted(jax.tree.map(lambda leaf, i=index: leaf[i], batches))
        summary = trainer.train(iter([batch]), 1).result()
        losses.append([float(summary[f"loss_{task}"].value) for task in ("label", "rationale")])
    manager.save(trainer.train_state)
    manager.close()
    trainer.close()
    return np.asarray(losses)


@needs_t5x
@pytest.mark.t5x
@pytest.mark.parametrize(("name", "layout"), [("adamw", "zarr"), ("adafactor", "ocdbt")])
def test_native_then_t5x_then_native_is_one_run(name, layout, tmp_path):
    config = parity.optimizer_config(name)
    batches = parity.random_batches()

    def part(start, stop):
        return jax.tree.map(lambda leaf: leaf[start:stop], batches)

    expected, final = parity.native_curve(config)
    params = parity.random_params(parity.CONFIG)
    first, state = native_steps(
        config, part(0, FIRST), 0, params, make_optimizer(config).init(params)
    )
    saved = to_t5x(int(state.step), state.params, state.opt_state, config)
    folder = tmp_path / f"checkpoint_{FIRST}"
    t5x_files.write_checkpoint(saved, epath.Path(folder), layout)

    second = t5x_steps(config, part(FIRST, SECOND), folder, tmp_path / "t5x")
    step, params, opt_state = from_t5x(
        t5x_files.read_checkpoint(tmp_path / "t5x"), parity.CONFIG, config
    )
    assert step == SECOND
    third, state = native_steps(config, part(SECOND, parity.STEPS), step, params, opt_state)
    got = np.concatenate([first, second, third])
    print(name, "worst relative distance", np.max(np.abs(got / expected - 1)))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    for ours, whole in zip(*map(jax.tree.leaves, (state.params, final)), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-3, atol=1e-4)


@needs_t5x
@pytest.mark.t5x
def test_t5xs_older_checkpoints_are_read(tmp_path):
    """Those that T5X's own Checkpointer, of the public checkpoints' time, writes."""
    from t5x import checkpoints

    config = parity.optimizer_config("adafactor")
    _, partitioner, start = initializer(config)
    state = start.from_scratch(jax.random.PRNGKey(1))
    checkpoints.Checkpointer(state, partitioner, str(tmp_path)).save(state)
    assert (tmp_path / "checkpoint_0" / "checkpoint").is_file()
    saved = t5x_files.read_checkpoint(tmp_path)
    whole = state.state_dict()
    assert jax.tree.structure(saved["target"]) == jax.tree.structure(dict(whole["target"]))
    for ours, theirs in zip(*map(jax.tree.leaves, (saved, whole)), strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs))
    step, params, _ = from_t5x(saved, parity.CONFIG, config)
    assert step == 0
    np.testing.assert_array_equal(
        params["token_embedder"]["embedding"], whole["target"]["token_embedder"]["embedding"]
    )


@needs_t5x
@pytest.mark.t5x
def test_t5xs_scanned_network_computes_the_same(tmp_path):
    import flax
    from t5x.examples.scalable_t5 import network

    small = parity.CONFIG
    params = parity.random_params(small)
    scanned = network.Transformer(
        network.T5Config(
            vocab_size=small.vocab_size,
            emb_dim=small.embed_dim,
            num_heads=small.num_heads,
            head_dim=small.head_dim,
            mlp_dim=small.mlp_dim,
            dropout_rate=0.0,
            num_encoder_layers=small.num_encoder_layers,
            dtype="float32",
            scan_layers=True,
            num_decoder_layers=small.num_decoder_layers,
            mlp_activations=("gelu", "linear"),
            logits_via_embedding=small.tie_embeddings,
            remat_policy="none",
        )
    )
    batch = jax.tree.map(lambda leaf: leaf[0], parity.random_batches())
    arguments = [
        batch[f"{name}_tokens"] for name in ("encoder_input", "decoder_input", "decoder_target")
    ]
    shapes = jax.eval_shape(lambda: scanned.init(jax.random.key(0), *arguments))["params"]
    wide = layers.to_scalable(params)
    shapes = flax.core.unfreeze(flax.linen.meta.unbox(shapes))
    assert jax.tree.map(np.shape, wide) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    one_by_one = parity.t5x_model(small, 1.0).module.apply(
        {"params": params}, *arguments, enable_dropout=False
    )
    logits = scanned.apply({"params": wide}, *arguments, enable_dropout=False)
    np.testing.assert_allclose(logits, one_by_one, rtol=1e-5, atol=1e-5)
    back = params_from_t5x(wide, small)
    jax.tree.map(np.testing.assert_array_equal, back, params)
