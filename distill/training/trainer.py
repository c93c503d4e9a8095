"""What a run needs to train: its batches by step, and its step on its devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from distill.config.run import RunConfig
from distill.data.batching.batches import BatchStream
from distill.data.cache import TokenCache
from distill.errors import UserError
from distill.training import mesh as meshes
from distill.training.layouts import choose_layout, choose_parts
from distill.training.program import Program, make_program
from distill.training.step import TrainState


@dataclasses.dataclass
class Trainer:
    """What a run needs to train: built once, used by `fit`.

    Attributes:
      config: the run.
      cache: its tokens and rows.
      stream: its batches by step.
      program: its step on its devices.
    """

    config: RunConfig
    cache: TokenCache
    stream: BatchStream
    program: Program
    _compiled: set[frozenset[tuple[str, tuple[int, ...]]]] = dataclasses.field(default_factory=set)

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices."""
        return self.program.mesh

    def train_step(
        self, state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step: the next state, and metrics."""
        with self.program.context():
            return self.program.train_step(state, batch)

    def is_compiled_for(self, batch: Mapping[str, jax.Array]) -> bool:
        """Whether this was asked before for a batch of these shapes, whose step then compiled."""
        shapes = frozenset((name, array.shape) for name, array in batch.items())
        known = shapes in self._compiled
        self._compiled.add(shapes)
        return known

    def init(self) -> TrainState:
        """The state before the first step."""
        return self.program.init()


def _has_float64() -> bool:
    # jax declares its settings at run time, where type checkers do not see them.
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def make_trainer(config: RunConfig, cache: TokenCache) -> Trainer:
    """Builds mesh, stream and compiled functions of a run.

    Raises:
      UserError: a batch or a mesh that the devices cannot hold.
    """
    if config.train.checkpoint == "best" and not cache.rows["validation"]:
        raise UserError(
            "got CHECKPOINT = 'best', but there are no validation rows: raise VALIDATION_FRACTION "
            "or NUM_LABELS, or set CHECKPOINT to 'last'"
        )
    if config.student.dtype == "float64" and not _has_float64():
        raise UserError(
            "got DTYPE = 'float64', expected 'float32' or 'bfloat16': jax has float64 only with "
            "the environment variable JAX_ENABLE_X64=1"
        )
    train = config.train
    mesh = meshes.make_mesh(train.model_parallel)
    stream = BatchStream(
        cache,
        config.data,
        config.weighting,
        train.batch_size,
        train.seed,
        row_multiple=mesh.shape["data"] * train.microbatches,
        layout=choose_layout(train, mesh),
        parts=choose_parts(train, mesh),
    )
    return Trainer(config, cache, stream, make_program(config, mesh))
