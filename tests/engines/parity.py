"""The same tiny student, batches and optimizer for both engines; T5X is imported where needed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.config.optimizer import OptimizerConfig
from distill.config.student import T5Config
from distill.engines.t5x import train as engine
from distill.errors import UserError
from distill.student.params import param_shapes
from distill.training.optimizer import make_optimizer, make_schedule
from distill.training.step import TrainState, make_train_step

STEPS, PAIRS, LENGTH = 50, 4, 12
TASK_WEIGHTS = (0.3, 0.7)
CONFIG = T5Config(
    vocab_size=24,
    embed_dim=12,
    num_heads=2,
    head_dim=6,
    mlp_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    dropout_rate=0.0,
)


def t5x_imports() -> bool:
    try:
        engine.require_t5x()
    except UserError:
        return False
    return True


needs_t5x = pytest.mark.skipif(not t5x_imports(), reason="T5X does not import (docs/t5x.md)")


def optimizer_config(name: str) -> OptimizerConfig:
    """AdamW or Adafactor with warm-up, decay and clipping.

    At five times this rate Adafactor's steps are chaotic here: there the engines part by 8%
    within 50 steps, and so does native from itself with parameters changed by 1e-7.
    """
    return OptimizerConfig(
        learning_rate=0.01,
        warmup_steps=5,
        total_steps=60,
        b2=0.98,
        weight_decay=0.01,
        clip_norm=1.0,
        name=name,
    )


def random_params(config: T5Config, seed: int = 0) -> dict:
    """Parameters from numpy's generator: the same anywhere."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if len(leaf.shape) == 1:
            return np.ones(leaf.shape, np.float32)
        size = 1.0 if leaf.shape[0] == config.vocab_size else leaf.shape[0] ** -0.5
        return rng.normal(0.0, size, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, param_shapes(config))


def random_batches(seed: int = 0) -> dict[str, np.ndarray]:
    """STEPS batches of PAIRS packed rows: a label and a rationale, which repeat their input.

    Loss weights are within-task ones (1 / length), as the native engine has them.
    """
    rng = np.random.default_rng(seed)
    names = [f"encoder_{n}" for n in ("input_tokens", "segment_ids", "positions")]
    names += [
        f"decoder_{n}"
        for n in ("target_tokens", "input_tokens", "segment_ids", "positions", "task_ids")
    ]
    batch = {name: np.zeros((STEPS, PAIRS, LENGTH), np.int32) for name in names}
    batch["decoder_loss_weights"] = np.zeros((STEPS, PAIRS, LENGTH), np.float32)
    for place in np.ndindex(STEPS, PAIRS):
        words = rng.integers(4, 24, 4)
        start = target_start = 0
        for task, target in enumerate((words[:1], words[: rng.integers(2, 5)])):
            inputs, target = [2 + task, *words, 1], [*target, 1]
            here = (*place, slice(start, start + 6))
            batch["encoder_input_tokens"][here] = inputs
            batch["encoder_segment_ids"][here] = 1 + task
            batch["encoder_positions"][here] = np.arange(6)
            there = (*place, slice(target_start, target_start + len(target)))
            batch["decoder_target_tokens"][there] = target
            batch["decoder_input_tokens"][there] = [0, *target[:-1]]
            batch["decoder_segment_ids"][there] = 1 + task
            batch["decoder_positions"][there] = np.arange(len(target))
            batch["decoder_task_ids"][there] = task
            batch["decoder_loss_weights"][there] = 1 / len(target)
            start, target_start = start + 6, target_start + len(target)
    return batch


def native_curve(config: OptimizerConfig) -> tuple[np.ndarray, dict]:
    """Task losses [STEPS, 2] before each update, and the parameters after the last."""
    optimizer = make_optimizer(config)
    params = jax.tree.map(jnp.asarray, random_params(CONFIG))
    key = jax.random.key_data(jax.random.key(0))
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), key)
    step = make_train_step(CONFIG, optimizer, TASK_WEIGHTS, PAIRS)
    state, found = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, random_batches())
    return np.asarray(found["losses"]), state.params


def weighted(batch: dict) -> dict:
    """The batch as the t5x engine has it: loss weights with those of the tasks."""
    weights = np.asarray(TASK_WEIGHTS, np.float32)[batch["decoder_task_ids"]]
    return batch | {"decoder_loss_weights": batch["decoder_loss_weights"] * weights}


def t5x_model(
    config: T5Config, divisor: float, task_weights=TASK_WEIGHTS, dtype: str = "float32", **settings
):
    """The t5x engine's model around T5X's own network."""
    import seqio
    from t5x.examples.t5 import network

    from distill.engines.t5x.model import TaskLossModel

    module = network.Transformer(
        network.T5Config(
            vocab_size=config.vocab_size,
            emb_dim=config.embed_dim,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            dropout_rate=config.dropout_rate,
            num_encoder_layers=config.num_encoder_layers,
            dtype=dtype,
            num_decoder_layers=config.num_decoder_layers,
            mlp_activations=("gelu", "linear"),
            logits_via_embedding=config.tie_embeddings,
        )
    )
    words = seqio.PassThroughVocabulary(config.vocab_size)
    return TaskLossModel(
        module,
        words,
        words,
        optimizer_def=None,
        task_weights=task_weights,
        loss_normalizing_factor=divisor,
        **settings,
    )


def t5x_curve(config: OptimizerConfig) -> tuple[np.ndarray, dict]:
    """`native_curve` by T5X's network, loss and optimizer."""
    from distill.training.optimizer import make_t5x_optimizer

    model, schedule = t5x_model(CONFIG, PAIRS), make_schedule(config)
    params = jax.tree.map(jnp.asarray, random_params(CONFIG))

    def step(carry, batch):
        number, optimizer = carry
        gradient = jax.value_and_grad(model.loss_fn, has_aux=True)
        (_, metrics), grads = gradient(optimizer.target, batch, None)
        losses = [metrics[f"loss_{task}"].total for task in ("label", "rationale")]
        optimizer = optimizer.apply_gradient(grads, learning_rate=schedule(number))
        return (number + 1, optimizer), jnp.stack(losses)

    start = jnp.zeros((), jnp.int32), make_t5x_optimizer(config).create(params)
    run = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches))
    (_, optimizer), losses = run(start, weighted(random_batches()))
    return np.asarray(losses), optimizer.target
