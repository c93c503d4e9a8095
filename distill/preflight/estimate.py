"""What a step needs, from shapes alone; and the least time that a chip can take for it.

Without a compiler only the state's bytes and the products' operations are exact. Temporaries,
traffic and collectives are modeled from what the network keeps and moves; every number that
comes from here is labeled an estimate.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from distill.config.optimizer import OptimizerConfig
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.preflight.chips import Chip
from distill.preflight.count import Shapes, training_flops
from distill.preflight.hlo import Collective

if TYPE_CHECKING:
    import jax

# Arrays of a layer's attention scores that live at once, and how often they are written or read in
# a forward and backward pass: float32 ones, or bfloat16 ones (`distill.student.attend`)
_SCORES_KEPT, _SCORES_MOVED = 3, 12
_NARROW_SCORES_KEPT, _NARROW_SCORES_MOVED = 2, 6
_LOGITS_KEPT = 3
# What libtpu's programs of docs/preflight.md's cases have beyond what is listed here: gaps between
# buffers (peaks were .86 to 1.05 of the compiled ones), copies and element-wise passes (traffic
# was .47 to .64).
_GAPS = 1.12
_COPIES = 1.8


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The least seconds of a step, and what binds: the largest of the three, all overlapped."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """Seconds a step, at least."""
        return max(dataclasses.astuple(self))

    @property
    def bound_by(self) -> str:
        """The name of the largest."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def roofline(chip: Chip, flops: float, traffic: float, sent: float) -> Roofline:
    """The roofline of a step on one chip (Williams et al. 2009, doi:10.1145/1498765.1498785).

    Args:
      chip: its peaks.
      flops: of products, a chip.
      traffic: bytes of memory read and written, a chip.
      sent: bytes that a chip sends, at one direction of all its links: half of the total.
    """
    return Roofline(
        flops / chip.flops_per_second,
        traffic / chip.hbm_bytes_per_second,
        sent / (chip.ici_bytes_per_second / 2),
    )


@dataclasses.dataclass(frozen=True)
class State:
    """Bytes of a device's share of the state; exact."""

    parameters: int
    optimizer: int
    other: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.optimizer + self.other


def state_bytes(
    student: T5Config, optimizer: OptimizerConfig, sharding: str, mesh: jax.sharding.AbstractMesh
) -> State:
    """What a device of a mesh, which may be abstract, holds of a run's state.

    Args:
      student: the student's sizes.
      optimizer: its settings.
      sharding: PARAMETER_SHARDING.
      mesh: (data, model).

    Raises:
      UserError: parameters that the mesh cannot split as configured.
    """
    from jax import tree

    from distill.training.program import state_shapes, state_shardings

    def local(shapes: object, shardings: object) -> int:
        leaves = zip(tree.leaves(shapes), tree.leaves(shardings), strict=True)
        return sum(
            math.prod(leaf_sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf, leaf_sharding in leaves
        )

    shapes = state_shapes(student, optimizer)
    shardings = state_shardings(student, optimizer, sharding, mesh)
    parameters = local(shapes.params, shardings.params)
    moments = local(shapes.opt_state, shardings.opt_state)
    return State(parameters, moments, local(shapes, shardings) - parameters - moments)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A step on one device, modeled (`collectives` as `distill.preflight.hlo` has them)."""

    flops: float
    temporary_bytes: float
    peak_bytes: float
    traffic: float
    collectives: list[Collective]


def estimate(config: RunConfig, state: State, mesh: tuple[int, int], shapes: Shapes) -> Estimate:
    """Models a step.

    Args:
      config: the run.
      state: as of `state_bytes`.
      mesh: data- and model-parallel devices.
      shapes: of the whole batch.
    """
    data, model = mesh
    student, train = config.student, config.train
    parts = train.microbatches
    part = Shapes(max(shapes.rows // (data * parts), 1), shapes.inputs, shapes.targets)
    zero = train.parameter_sharding == "zero"
    width = {"bfloat16": 2, "float32": 4, "float64": 8}[student.dtype]
    local = state.parameters / 4  # numbers, which are float32
    gathered = local * (data if zero else 1) * width  # of one pass through all layers
    layers = student.num_encoder_layers + student.num_decoder_layers
    gradients = local * 4 * (2 if parts > 1 else 1)
    kept = _kept(student, part, model, width)
    scores = _scores(student, part, model)
    logits = part.rows * part.targets * student.vocab_size / model * 4
    narrow = student.narrow_scores
    scores_kept = _NARROW_SCORES_KEPT if narrow else _SCORES_KEPT
    scores_moved = _NARROW_SCORES_MOVED if narrow else _SCORES_MOVED
    temporary = gradients + kept + scores_kept * max(scores) + _LOGITS_KEPT * logits
    # Without recomputation the gathered parameters are among what the backward pass keeps.
    temporary += gathered if zero and student.remat == "none" else 2 * gathered / layers
    temporary *= _GAPS
    batch = shapes.rows // data * (3 * shapes.inputs + 6 * shapes.targets) * 4
    passes = 3 if student.remat != "full" else 4
    moved = parts * (
        passes * (gathered + kept) + 4 * _LOGITS_KEPT * logits / 3 + scores_moved * sum(scores)
    )
    moved = _COPIES * moved + 2 * (state.parameters + state.optimizer) + gradients
    return Estimate(
        training_flops(student, shapes, parts) / (data * model),
        temporary,
        state.total + batch + temporary,
        moved,
        _collectives(config, part, (data, model), gathered, local, width),
    )


def _scores(student: T5Config, part: Shapes, model: int) -> list[float]:
    """Bytes of the attention scores of each layer."""
    rows = part.rows * student.num_heads / model * (2 if student.narrow_scores else 4)
    decoder = rows * part.targets * (part.targets + part.inputs)
    return [rows * part.inputs**2] * student.num_encoder_layers + [
        decoder
    ] * student.num_decoder_layers


def _kept(student: T5Config, part: Shapes, model: int, width: int) -> float:
    """Bytes that a device keeps of a part's forward pass for its backward pass."""
    d, j, f = student.embed_dim, student.joined_dim / model, student.mlp_dim / model
    inputs, targets = part.rows * part.inputs, part.rows * part.targets
    hidden = len(student.mlp_activations) * f
    encoder, decoder = float(d), float(d)
    cross = 0.0
    if student.remat != "full":  # results of products with parameters
        encoder += 3 * j + d + hidden
        decoder += 4 * j + 2 * d + hidden
        cross = 2 * j
    if student.remat == "minimal" and student.narrow_scores:  # results of attention
        encoder, decoder = encoder + j, decoder + 2 * j
    if student.remat == "none":  # norms, activations
        encoder += 2 * d + j + 2 * f
        decoder += 3 * d + 2 * j + 2 * f
    numbers = student.num_encoder_layers * inputs * encoder
    numbers += student.num_decoder_layers * (targets * decoder + inputs * cross)
    total = numbers * width
    if student.remat == "none":
        weights = 0 if student.narrow_scores else width / 4  # are stored as well
        total += sum(_scores(student, part, model)) * (1 + weights)
    if student.dropout_rate:
        layer_factors = 8 * (2 * d + student.mlp_dim) + student.num_heads * part.inputs
        factors = student.num_encoder_layers * layer_factors + part.inputs * d
        factors += student.num_decoder_layers * (
            layer_factors + 8 * d + student.num_heads * part.targets
        )
        total += part.rows * factors * 4
    return total


def _collectives(
    config: RunConfig,
    part: Shapes,
    mesh: tuple[int, int],
    gathered: float,
    local: float,
    width: int,
) -> list[Collective]:
    """What is sent: parameters and gradients over data, activations over model."""
    (data, model), parts = mesh, config.train.microbatches
    student = config.student
    share = (data - 1) / data
    collectives = []
    if data > 1 and config.train.parameter_sharding == "zero":
        gathers = 2 * parts
        collectives.append(Collective("all-gather", "data", gathers, gathers * share * gathered))
        collectives.append(Collective("reduce-scatter", "data", parts, parts * share * gathered))
    elif data > 1:
        collectives.append(Collective("all-reduce", "data", parts, parts * 2 * share * local * 4))
    if model > 1:
        # After attention and feed-forward, in each direction, and where layers run again.
        passes = 3 if student.remat == "full" else 2
        encoder = 2 * student.num_encoder_layers * part.rows * part.inputs
        decoder = 3 * student.num_decoder_layers * part.rows * part.targets
        count = passes * (2 * student.num_encoder_layers + 3 * student.num_decoder_layers)
        numbers = (encoder + decoder) * student.embed_dim * passes
        sent = 2 * (model - 1) / model * numbers * width
        collectives.append(Collective("all-reduce", "model", parts * count, parts * sent))
    return collectives
