"""The programs of a run on a mesh: what training compiles, and preflight compiles beforehand."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import optax

from distill.config.optimizer import OptimizerConfig
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.training import mesh as meshes
from distill.training.optimizer import make_optimizer
from distill.training.step import TrainState, TrainStep, init_state, make_train_step

# A TrainState that has a NamedSharding in place of each array.
Shardings = Any


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's training step on a mesh, whose devices need not exist.

    Attributes:
      mesh: (data, model).
      rules: logical axis -> mesh axis.
      shapes: of the state, as ShapeDtypeStructs.
      shardings: of the state.
      train_step: jitted, (state, batch) -> (state, metrics); the state is given away.
      init: makes the state before the first step.
    """

    mesh: jax.sharding.Mesh
    rules: tuple[tuple[str, str | None], ...]
    shapes: TrainState
    shardings: Shardings
    train_step: TrainStep
    init: Callable[[], TrainState]

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """Within it the step is traced and called: constraints on activations need it.

        flax looks for the mesh that `jax.set_mesh` sets. With jax's older `with mesh:` it finds
        none, leaves every constraint out, and says nothing.
        """
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.rules):
            yield


@functools.lru_cache(maxsize=4)
def _state_shapes(student: T5Config, optimizer: OptimizerConfig) -> TrainState:
    shapes: TrainState = jax.eval_shape(lambda: init_state(student, make_optimizer(optimizer), 0))
    return shapes


def state_shapes(student: T5Config, optimizer: OptimizerConfig) -> TrainState:
    """The state as ShapeDtypeStructs; nothing is computed."""
    return _state_shapes(dataclasses.replace(student, remat="none"), optimizer)


def state_shardings(
    student: T5Config,
    optimizer: OptimizerConfig,
    sharding: str,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
) -> Shardings:
    """Where the state lies on a mesh, which may be abstract, with a PARAMETER_SHARDING.

    Moments of their parameter's shape lie where it lies; Adafactor's rows and columns, which
    are vectors, and counters are on every device.

    Raises:
      UserError: parameters that the mesh cannot split as configured.
    """
    shapes = state_shapes(student, optimizer)
    params = meshes.param_shardings(student, mesh, sharding)
    replicated = meshes.replicated(mesh)
    opt_state = optax.tree_map_params(
        make_optimizer(optimizer),
        lambda moment, param, param_sharding: (
            param_sharding if moment.shape == param.shape else replicated
        ),
        shapes.opt_state,
        shapes.params,
        params,
        transform_non_params=lambda _: replicated,
    )
    make_tree: Callable[..., Shardings] = TrainState
    return make_tree(replicated, params, opt_state, replicated)


def make_program(config: RunConfig, mesh: jax.sharding.Mesh) -> Program:
    """Builds the jitted functions of a run; nothing is compiled or allocated yet.

    Raises:
      UserError: parameters that the mesh cannot split as configured.
    """
    train = config.train
    optimizer = make_optimizer(config.optimizer)
    replicated = meshes.replicated(mesh)
    shapes = state_shapes(config.student, config.optimizer)
    shardings = state_shardings(config.student, config.optimizer, train.parameter_sharding, mesh)
    step = make_train_step(
        config.student,
        optimizer,
        config.task_weights,
        float(train.batch_size),
        config.z_loss,
        train.microbatches,
    )
    init = jax.jit(
        lambda seed: init_state(config.student, optimizer, seed), out_shardings=shardings
    )
    return Program(
        mesh,
        meshes.axis_rules(train.parameter_sharding),
        shapes,
        shardings,
        train_step=jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated)),
        init=lambda: init(train.seed),
    )
