"""The training step of stock T5X for a run's student: its network, trainer and partitioner."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import seqio
from t5x import models, partitioning, trainer, utils
from t5x.examples.scalable_t5 import network as scanned_network
from t5x.examples.t5 import network

from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.training.optimizer import make_schedule, make_t5x_optimizer

FEATURES = ("input_tokens", "target_tokens", "segment_ids", "positions", "loss_weights")


def stock_sizes(student: T5Config) -> dict[str, object]:
    """The arguments of T5X's T5Config for a student; `scalable_t5` takes the same ones."""
    names = (
        "vocab_size",
        "num_heads",
        "num_encoder_layers",
        "num_decoder_layers",
        "head_dim",
        "mlp_dim",
        "mlp_activations",
        "dropout_rate",
    )
    return {name: getattr(student, name) for name in names} | {
        "emb_dim": student.embed_dim,
        "dtype": jnp.dtype(student.dtype),
        "logits_via_embedding": student.tie_embeddings,
    }


def stock_model(run: RunConfig, divisor: float, scanned: bool = False) -> models.BaseModel:
    """T5X's EncoderDecoderModel around its own network, with the run's optimizer.

    Args:
      run: the run.
      divisor: of the loss.
      scanned: whether the network is scalable_t5, which scans its layers, in place of t5.
    """
    student, sizes = run.student, stock_sizes(run.student)
    if scanned:
        module = scanned_network.Transformer(scanned_network.T5Config(**sizes))
    else:
        module = network.Transformer(network.T5Config(**sizes))
    words = seqio.PassThroughVocabulary(student.vocab_size)
    return models.EncoderDecoderModel(
        module, words, words, make_t5x_optimizer(run.optimizer), loss_normalizing_factor=divisor
    )


def features(batch: Mapping[str, np.ndarray], packed: bool = True) -> dict[str, np.ndarray]:
    """What stock T5X reads of a packed batch of the native engine."""
    names = [f"{side}_{name}" for side in ("encoder", "decoder") for name in FEATURES]
    names += ["decoder_input_tokens"]
    wanted = names if packed else [n for n in names if not n.endswith(("segment_ids", "positions"))]
    return {name: np.asarray(batch[name]) for name in dict.fromkeys(wanted) if name in batch}


class StockStep:
    """A compiled step of stock T5X on one device, and its state."""

    def __init__(
        self, run: RunConfig, batch: Mapping[str, np.ndarray], divisor: float, scanned: bool = False
    ) -> None:
        """Compiles the step.

        Args:
          run: the run.
          batch: of `features`, of the shapes of all steps.
          divisor: of the loss.
          scanned: see `stock_model`.
        """
        rules = partitioning.standard_logical_axis_rules()
        partitioner = partitioning.PjitPartitioner(num_partitions=1, logical_axis_rules=rules)
        model = stock_model(run, divisor, scanned)
        self._initial = utils.TrainStateInitializer(
            model.optimizer_def,
            model.get_initial_variables,
            {name: array.shape for name, array in batch.items()},
            partitioner,
        )
        # The rate of T5X's own Adafactor is an argument; optax's rules have their schedule.
        rate = make_schedule(run.optimizer)(run.optimizer.warmup_steps)
        step = functools.partial(
            trainer.train_with_lr,
            learning_rate=rate,
            model=model,
            num_microbatches=None,
            data_partition_spec=partitioner.data_partition_spec,
        )

        def train(state: object, batch: Mapping[str, jax.Array], key: jax.Array) -> object:
            return step(state, batch, dropout_rng=jax.random.fold_in(key, state.step))

        axes = self._initial.train_state_axes
        partitioned = partitioner.partition(
            train,
            (axes, partitioner.data_partition_spec, None),
            (axes, None),
            donate_argnums=(0,),
        )
        key = jax.random.PRNGKey(0)
        shapes = self._initial.global_train_state_shape
        self.compiled = partitioned.lower(shapes, dict(batch), key).compile()
        self._key, self._state = key, None

    def init(self) -> None:
        """Makes the state before the first step."""
        self._state = self._initial.from_scratch(jax.random.PRNGKey(0))

    def __call__(self, batch: Mapping[str, jax.Array]) -> object:
        """Takes a step; returns its metrics, computed or not."""
        self._state, metrics = self.compiled(self._state, batch, self._key)
        return metrics
