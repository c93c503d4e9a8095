"""The training step: objective, sharding, learning."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.config import resolve
from distill.config.weighting import Weighting
from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.student.network import T5
from distill.student.params import init_params
from distill.training.step import accumulated, loss_fn
from distill.training.trainer import make_trainer

NORMALIZATIONS = ("per_sequence", "per_token", "per_token_batch")


@pytest.fixture(scope="module")
def run(micro):
    return resolve.resolve(["tickets_step_by_step"], (*micro, "DROPOUT_RATE=0.0")).run


@pytest.fixture(scope="module")
def cache(run):
    return caches.load_cache(run.data)


@pytest.fixture(scope="module")
def params(run):
    return init_params(run.student, jax.random.key(0))


def _two_pass_loss(params, run, cache, rows, normalization):
    """The paper's objective as one would write it down: a task at a time, a row at a time."""
    total = 0.0
    for task, task_weight in zip(run.data.tasks, run.task_weights, strict=True):
        losses, lengths = [], []
        for row in rows:
            inputs = cache.tokens["train", task, "inputs"][row]
            targets = cache.tokens["train", task, "targets"][row]
            batch = {
                "encoder_input_tokens": jnp.asarray(inputs)[None],
                "decoder_target_tokens": jnp.asarray(targets)[None],
                "decoder_input_tokens": jnp.asarray([0, *targets[:-1]])[None],
            }
            logits = T5(run.student).apply({"params": params}, batch, deterministic=True)[0]
            chosen = jax.nn.log_softmax(logits)[jnp.arange(len(targets)), targets]
            losses.append(-chosen.sum())
            lengths.append(len(targets))
        if normalization == "per_sequence":
            mean = sum(loss / n for loss, n in zip(losses, lengths, strict=True)) / len(rows)
        elif normalization == "per_token_batch":
            mean = sum(losses) / sum(lengths)
        else:
            mean = sum(losses) / (len(rows) * cache.mean_target_tokens(task))
        total += task_weight * mean
    return total


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_paired_gradient_is_that_of_the_plain_objective(run, cache, params, normalization):
    weighting = Weighting(0.3, 0.7, normalization)
    stream = BatchStream(cache, run.data, weighting, batch_size=2, seed=0)
    rows = stream.rows(1)
    with jax.default_matmul_precision("highest"):
        packed = functools.partial(
            loss_fn,
            batch=stream.batch(1),
            dropout_key=jax.random.key(0),
            config=run.student,
            task_weights=run.task_weights,
            divisor=2.0,
        )
        ours = jax.jit(jax.grad(lambda p: packed(p)[0]))(params)
        plain = jax.jit(jax.grad(lambda p: _two_pass_loss(p, run, cache, rows, normalization)))(
            params
        )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * max(np.linalg.norm(b), 1e-3)


def test_weights_of_one_and_zero_leave_one_task(run, cache, params):
    batch = BatchStream(cache, run.data, run.weighting, batch_size=4, seed=0).batch(0)
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        loss, losses_K = loss_fn(params, batch, jax.random.key(0), run.student, weights, 4.0)
        assert float(loss) == pytest.approx(float(losses_K[int(weights[1])]), rel=1e-6)


@pytest.mark.parametrize("microbatches", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_microbatches_give_the_gradient_of_the_whole(run, cache, params, microbatches):
    stream = BatchStream(cache, run.data, run.weighting, 8, seed=0, row_multiple=4)
    arguments = (params, stream.batch(0), jax.random.key(0), run.student, run.task_weights, 8.0)
    gradient = jax.value_and_grad(loss_fn, has_aux=True)
    static = (3, 4, 5)  # config, task weights, divisor
    with jax.default_matmul_precision("highest"):
        whole = jax.jit(gradient, static_argnums=static)(*arguments)
        parts = jax.jit(accumulated(gradient, microbatches), static_argnums=static)(*arguments)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        assert np.linalg.norm(a - b) <= 1e-6 * max(np.linalg.norm(b), 1e-2)


@pytest.mark.slow
def test_z_loss_reaches_the_step(micro, cache, run):
    """The compiled step's loss is the objective plus the z term, its gradient likewise."""
    with_z = resolve.resolve(
        ["tickets_step_by_step"], (*micro, "DROPOUT_RATE=0.0", "Z_LOSS=0.05", "LAYOUT='packed'")
    ).run
    trainer = make_trainer(with_z, cache)
    state, batch = trainer.init(), trainer.stream.batch(0)
    arguments = (batch, jax.random.key(0), run.student, run.task_weights, 8.0)
    (without, _), _ = jax.value_and_grad(loss_fn, has_aux=True)(state.params, *arguments)
    (expected, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, *arguments, z_loss=0.05
    )
    logits = T5(run.student).apply({"params": state.params}, batch, deterministic=True)
    weights = (
        batch["decoder_loss_weights"] * np.asarray(run.task_weights)[batch["decoder_task_ids"]]
    )
    term = 0.05 * np.sum(jax.nn.logsumexp(logits, axis=-1) ** 2 * weights) / 8.0
    assert term > 0.01 * float(without)
    assert float(expected - without) == pytest.approx(float(term), rel=1e-4)
    _, metrics = trainer.train_step(state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.global_norm(grads)), rel=1e-4)


SHARDED = """
import jax, numpy as np
from distill.config import resolve
from distill.data import cache
from distill.training import mesh as meshes
from distill.training.trainer import make_trainer
import sys
run = resolve.resolve(["tickets_step_by_step"], sys.argv[1:]).run
trainer = make_trainer(run, cache.load_cache(run.data))
state = trainer.init()
losses = []
for step in range(3):
    batch = meshes.put_batch(trainer.stream.batch(step), trainer.mesh)
    state, metrics = trainer.train_step(state, batch)
    losses.append(float(metrics["loss"]))
kernel = state.params["encoder"]["layers_0"]["mlp"]["wi_0"]["kernel"]
moments = [leaf.sharding for leaf in jax.tree.leaves(state.opt_state)]
split = sum(not sharding.is_fully_replicated for sharding in moments)
print(jax.device_count(), kernel.addressable_shards[0].data.shape[1], split, *losses)
"""


def _sharded(micro, devices: int, model_parallel: int) -> list[float]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SHARDED,
            *micro,
            f"MODEL_PARALLEL={model_parallel}",
            "DROPOUT_RATE=0.0",
        ],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(word) for word in done.stdout.split()]


# Sides of 128, so that the feed-forward moments are factored and attention's are not.
FACTORED = ("OPTIMIZER=adafactor", "EMBED_DIM=128", "MLP_DIM=128", "CLIP_NORM=0.0")


# Split over the model axis: 12 attention kernels, 2 relative position tables, 6 feed-forward
# kernels, embedding and logits. AdamW has two moments of each; Adafactor one of the first 14.
@pytest.mark.parametrize(
    ("overrides", "split"),
    [
        pytest.param((), 2 * 22, marks=pytest.mark.slow),
        pytest.param(("MICROBATCHES=2",), 2 * 22, marks=pytest.mark.slow),
        pytest.param(FACTORED, 14, marks=pytest.mark.slow),
    ],
    ids=["adamw", "microbatches", "adafactor"],
)
def test_devices_do_not_change_the_losses(micro, overrides, split):
    """4 devices as (data 2, model 2) against one: the same pairs, the same losses."""
    one, four = (_sharded((*micro, *overrides), n, parallel) for n, parallel in ((1, 1), (4, 2)))
    assert (one[0], four[0]) == (1, 4)
    assert four[1] == one[1] / 2  # the feed-forward kernel is split over the model axis
    assert (one[2], four[2]) == (0, split)  # moments of their parameter's shape, where it is split
    np.testing.assert_allclose(four[3:], one[3:], rtol=1e-5)
