"""T5X's EncoderDecoderModel, with each task's loss in its log and other settings. Needs t5x."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax.core import FrozenDict, freeze, unfreeze
from t5x import metrics, models

from distill.engines.t5x.remat import recomputed_layers
from distill.student.losses import token_nll
from distill.student.relative_bias import direction_bias

TASKS = ("label", "rationale")


class TaskLossModel(models.EncoderDecoderModel):
    """Logs `loss_label` and `loss_rationale`, L_task before weighting, next to `loss`.

    Loss and gradient are T5X's own. With a batch that has no `decoder_task_ids` it is the
    parent. A task of weight 0 is not logged, as its share of the loss says nothing of it.
    """

    def __init__(
        self,
        *arguments: object,
        task_weights: Sequence[float],
        remat: str = "none",
        embed_init: float = 1.0,
        direction_init: float = 0.0,
        **settings: object,
    ):
        """Takes K task weights, label first, the macros REMAT, EMBED_INIT and DIRECTION_INIT
        (`distill.config.student.T5Config`), and what EncoderDecoderModel takes."""
        super().__init__(*arguments, **settings)
        self._task_weights = tuple(task_weights)
        self._remat = remat
        self._embed_init, self._direction_init = embed_init, direction_init

    def get_initial_variables(self, *arguments: object, **settings: object) -> FrozenDict:
        """T5X's, with the initial embedding and position bias that the macros give."""
        variables = unfreeze(super().get_initial_variables(*arguments, **settings))
        embedder = variables["params"]["token_embedder"]
        embedder["embedding"] *= self._embed_init
        bias = variables["params"]["encoder"]["relpos_bias"]
        bias["rel_embedding"] += direction_bias(len(bias["rel_embedding"]), self._direction_init)
        return freeze(variables)

    def loss_fn(
        self, params: object, batch: Mapping[str, jax.Array], dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, Mapping[str, object]]:
        """T5X's loss, and its metrics with those of the tasks (see t5x/models.py)."""
        bound = copy.copy(self)
        if "decoder_task_ids" in batch:
            # T5X hands logits to _compute_metrics, but not the batch.
            bound._compute_metrics = lambda **arguments: self._with_task_losses(batch, **arguments)
        with recomputed_layers(self._remat):
            return super(TaskLossModel, bound).loss_fn(params, batch, dropout_rng)

    def _with_task_losses(
        self,
        batch: Mapping[str, jax.Array],
        logits: jax.Array,
        targets: jax.Array,
        mask: jax.Array,
        **arguments: object,
    ) -> Mapping[str, object]:
        # `accuracy` is over all target tokens, as T5X's masks are of 0 and 1.
        logged = dict(
            self._compute_metrics(
                logits=logits, targets=targets, mask=(targets > 0).astype(jnp.float32), **arguments
            )
        )
        if isinstance(self._loss_normalizing_factor, str):
            return logged
        logits = jax.lax.stop_gradient(logits)
        nll_BxT = token_nll(logits, targets, self._z_loss) * mask / self._loss_normalizing_factor
        for index, weight in enumerate(self._task_weights):
            if weight:
                share = jnp.sum(jnp.where(batch["decoder_task_ids"] == index, nll_BxT, 0.0))
                logged[f"loss_{TASKS[index]}"] = metrics.AveragePerStep(total=share / weight)
        return logged
