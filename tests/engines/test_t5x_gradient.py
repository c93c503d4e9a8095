"""The `paired_batches` gradient of stock T5X: against a plain loss and native."""

from __future__ import annotations

import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import parity
from parity import needs_t5x
from test_parity import norm_of_difference

from distill.config.resolve import resolve
from distill.config.student import T5Config
from distill.data import cache, ragged
from distill.data.batching.batches import BatchStream
from distill.engines.t5x import mixtures as t5x_mixtures
from distill.training.step import loss_fn
from tasks import mixtures

pytestmark = [needs_t5x, pytest.mark.t5x]
SETTINGS = [
    *("NUM_ROWS=30", "NUM_LABELS=20", "NUM_TEST=8", "VALIDATION_FRACTION=0.2", "BATCH_SIZE=16"),
    *("WEIGHTING=paired_batches", "LABEL_WEIGHT=0.3", "RATIONALE_WEIGHT=0.7"),
    *("INPUT_LENGTH=64", "TARGET_LENGTH=24"),
]
PAIRS = 16
TINY = {"embed_dim": 12, "num_heads": 2, "head_dim": 6, "mlp_dim": 16}


def config_of(normalization: str):
    experiment = "gin/experiments/tickets_step_by_step.gin"
    return resolve([experiment], [*SETTINGS, f"NORMALIZATION={normalization}"], "t5x").run


def student(config) -> T5Config:
    return T5Config(
        vocab_size=config.student.vocab_size,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dropout_rate=0.0,
        **TINY,
    )


def t5x_batch(config, pack: bool) -> dict[str, np.ndarray]:
    """One epoch, all rows, as T5X's own call gives it."""
    import seqio

    converter = t5x_mixtures.feature_converter(config.data, config.weighting)
    rows = seqio.get_dataset(
        mixtures.mixture(config.data, config.weighting),
        t5x_mixtures.feature_lengths(config.data, pack),
        converter(pack=pack),
        shuffle=True,
        seed=1,
    )
    rows = list(rows.as_numpy_iterator())
    # Empty rows, so that 4 microbatches divide the batch.
    rows += [{k: np.zeros_like(v) for k, v in rows[0].items()}] * (-len(rows) % 4)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def two_passes(model, params, config) -> jax.Array:
    """w_label * L_label + w_rationale * L_rationale, each from its own unpacked batch."""
    tokens = cache.load_cache(config.data)
    total = 0.0
    for task, weight in zip(config.data.tasks, config.task_weights, strict=True):
        inputs, targets = (tokens.tokens["train", task, side] for side in ragged.FEATURES)
        batch = {
            "encoder_input_tokens": padded(inputs, 30),
            "decoder_target_tokens": padded(targets, 16),
        }
        words = batch["decoder_target_tokens"]
        batch["decoder_input_tokens"] = np.pad(words, ((0, 0), (1, 0)))[:, :-1]
        logits = model._compute_logits(params, batch)
        surprise = -jax.nn.log_softmax(logits)[
            np.arange(len(words))[:, None], np.arange(16)[None], words
        ]
        row_sums = jnp.sum(jnp.where(words > 0, surprise, 0), axis=1)
        if config.weighting.normalization == "per_sequence":
            task_loss = jnp.mean(row_sums / (words > 0).sum(1))
        else:
            task_loss = jnp.mean(row_sums) / np.mean((words > 0).sum(1))
        total += weight * task_loss
    return total


def padded(sequences, length: int) -> np.ndarray:
    rows = [sequences[i] for i in range(len(sequences))]
    return np.stack([np.pad(row, (0, length - len(row))) for row in rows])


def assert_close(got, expected) -> None:
    errors = jax.tree.map(norm_of_difference, got, expected)
    for path, error in jax.tree_util.tree_flatten_with_path(errors)[0]:
        assert error < 1e-5, (jax.tree_util.keystr(path), error)


@pytest.fixture(scope="module")
def functions():
    """The model, its parameters and compiled gradients, which all tests share."""
    config = config_of("per_sequence")
    model = parity.t5x_model(student(config), float(PAIRS))
    params = jax.tree.map(jnp.asarray, parity.random_params(student(config)))
    return types.SimpleNamespace(
        model=model,
        params=params,
        gradient=jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True)),
    )


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_packed_or_not_it_is_that_of_two_passes_and_of_native(functions, normalization):
    config = config_of(normalization)
    assert len(cache.load_cache(config.data).rows["train"]) == PAIRS
    expected = jax.jit(jax.grad(lambda p: two_passes(functions.model, p, config)))(functions.params)
    stream = BatchStream(
        cache.load_cache(config.data), config.data, config.weighting, PAIRS, seed=0
    )
    native = jax.jit(
        jax.value_and_grad(
            lambda p, batch: loss_fn(
                p, batch, jax.random.key(0), student(config), config.task_weights, float(PAIRS)
            ),
            has_aux=True,
        )
    )
    (loss, losses), grads = native(functions.params, stream.batch(0))
    assert_close(grads, expected)
    for pack in (False, True):
        batch = t5x_batch(config, pack)
        assert len(batch["decoder_task_ids"]) == (16 if pack else 32) or pack
        (got, metrics), grads = functions.gradient(functions.params, batch, None)
        assert_close(grads, expected)
        assert float(got) == pytest.approx(float(loss), rel=1e-5)
        logged = [float(metrics[f"loss_{t}"].total) for t in ("label", "rationale")]
        assert logged == pytest.approx(losses.tolist(), rel=1e-5)


def test_microbatches_add_up_to_it(functions):
    from t5x.trainer import accumulate_grads_microbatched

    batch = t5x_batch(config_of("per_token"), pack=True)
    (loss, _), expected = functions.gradient(functions.params, batch, None)
    state = types.SimpleNamespace(params=functions.params, flax_mutables={})
    for parts in (2, 4):
        grads, metrics, _ = jax.jit(
            lambda batch, parts=parts: accumulate_grads_microbatched(
                functions.model, state, batch, jax.random.PRNGKey(0), parts
            )
        )(batch)
        assert_close(grads, expected)
        assert float(metrics["loss"].total) == pytest.approx(float(loss), rel=1e-5)


def test_a_batch_without_task_ids_gives_t5xs_own_loss(functions):
    """As in T5X's own evaluation: the parent's loss, and no losses of tasks."""
    batch = t5x_batch(config_of("per_token"), pack=True)
    _, with_tasks = functions.model.loss_fn(functions.params, batch, None)
    del batch["decoder_task_ids"]
    loss, metrics = functions.model.loss_fn(functions.params, batch, None)
    assert "loss_label" not in metrics
    assert float(loss) == pytest.approx(float(with_tasks["loss"].total))
