"""One object that says whether a run fits, how long a step takes at least, and what it sends."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NotRequired, TypedDict

from distill.config.optimizer import OptimizerConfig
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.data.batching.batches import PACKED
from distill.errors import UserError
from distill.preflight import hlo
from distill.preflight.chips import Topology
from distill.preflight.compile import (
    Compiled,
    batch_shapes,
    compile_decoding,
    compile_step,
    topology_devices,
)
from distill.preflight.count import Shapes, useful_flops
from distill.preflight.estimate import State, estimate, roofline, state_bytes
from distill.training import mesh as meshes
from distill.training.program import make_program


def mesh_shape(config: RunConfig, topology: Topology) -> tuple[int, int]:
    """Data- and model-parallel devices of a run on a slice.

    Raises:
      UserError: devices that MODEL_PARALLEL does not divide.
    """
    model = config.train.model_parallel
    if topology.devices % model:
        raise UserError(
            f"got MODEL_PARALLEL = {model}, expected a divisor of the {topology.devices} devices "
            f"of {topology.name}"
        )
    return topology.devices // model, model


@functools.lru_cache(maxsize=128)
def _state(
    student: T5Config, optimizer: OptimizerConfig, sharding: str, mesh: tuple[int, int]
) -> State:
    from jax.sharding import AbstractMesh

    return state_bytes(student, optimizer, sharding, AbstractMesh(mesh, meshes.AXES))


class Settings(TypedDict):
    """The macros that decide where a run fits."""

    MODEL_PARALLEL: int
    PARAMETER_SHARDING: str
    MICROBATCHES: int
    REMAT: str
    SCAN_LAYERS: bool
    DTYPE: str


class BytesPerChip(TypedDict):
    """What a chip's memory holds; None where only a compiler can tell."""

    parameters: float
    optimizer: float
    arguments: float | None
    outputs: float | None
    temporaries_estimate: int | None


class Decoding(TypedDict):
    """Label-only decoding, compiled."""

    rows: int
    fits: bool
    peak_bytes_per_chip: float
    flops_per_chip: float
    compile_seconds: float
    compile_cpu_seconds: float


class StepReport(TypedDict):
    """Report on the compiled training step for a TPU slice."""

    fits: bool
    estimate: bool
    topology: str
    chips: int
    devices: int
    mesh: dict[str, int]
    settings: Settings
    layout: str
    batch: dict[str, int]
    peak_bytes_per_chip: int
    hbm_bytes_per_chip: float
    bytes_per_chip: BytesPerChip
    flops_per_chip: float
    useful_flops_per_chip: float
    hbm_traffic_per_chip: float
    collectives: list[dict[str, Any]]
    collective_bytes_per_chip: float
    traffic_and_collectives: str
    step_seconds_bound: float
    bound_by: str
    seconds_by: dict[str, float]
    compile_seconds: float | None
    compile_cpu_seconds: float | None


class Duration(TypedDict):
    """What the whole run takes at least."""

    tokens_per_second: float
    hours: float
    cost: float | None


class Report(StepReport, Duration):
    """What `distill preflight --json` prints.

    Attributes:
      decoding: of a run whose training step fits.
      nearest: the nearest case that fits, for one that does not; None where nothing fits.
      changed: of such a case: macros and their values.
      table: of a search: the cases that were compared.
    """

    decoding: NotRequired[Decoding]
    nearest: NotRequired[Report | None]
    changed: NotRequired[dict[str, object]]
    table: NotRequired[list[Report]]


def inspect(
    config: RunConfig,
    topology: Topology,
    compiling: bool,
    rows: int | None = None,
    price: float | None = None,
    decoding: bool = False,
) -> Report:
    """Everything about a run on a slice.

    Args:
      config: the run.
      topology: the slice.
      compiling: compile with libtpu; otherwise all but the state's bytes and the products'
        operations is an estimate.
      rows: of a packed batch; None takes the most that it can have.
      price: of a chip an hour, for the cost.
      decoding: compile label-only decoding too, of a run whose training step fits.

    Returns:
      The object that `distill preflight --json` prints.

    Raises:
      UserError: settings that the slice cannot have; libtpu is missing or refuses the slice.
    """
    mesh = mesh_shape(config, topology)
    shapes = batch_shapes(config, mesh[0], rows)
    student = dataclasses.replace(config.student, remat="none")
    state = _state(student, config.optimizer, config.train.parameter_sharding, mesh)
    compiled = None
    if compiling:
        devices = topology_devices(topology)
        program = make_program(config, meshes.make_mesh(mesh[1], devices))
        compiled = compile_step(program, shapes)
    step = _describe(config, topology, mesh, state, shapes, compiled)
    duration = _run(config, topology, shapes, step["step_seconds_bound"], price)
    result: Report = {**step, **duration}
    if compiling and decoding and result["fits"]:
        length = config.data.target_length
        decoded = compile_decoding(config, program, length)
        result["decoding"] = _decoding(topology, config.train.eval_batch_size, decoded)
    return result


def _describe(
    config: RunConfig,
    topology: Topology,
    mesh: tuple[int, int],
    state: State,
    shapes: Shapes,
    compiled: Compiled | None,
) -> StepReport:
    chip, each = topology.chip, topology.chip.devices
    modeled = estimate(config, state, mesh, shapes)
    traffic, sent = modeled.traffic, modeled.collectives
    flops = modeled.flops * topology.devices
    peak, temporary = modeled.peak_bytes, modeled.temporary_bytes
    if compiled:
        flops, temporary = compiled.flops, compiled.temporary_bytes
        peak = max(compiled.peak_bytes, temporary + state.total)
        if compiled.hlo:
            parsed = hlo.parse_hlo(compiled.hlo)
            traffic, sent = hlo.traffic(parsed), hlo.collectives(parsed, mesh)
    bytes_sent = sum(one.bytes for one in sent) * each
    bound = roofline(chip, flops / topology.chips, traffic * each, bytes_sent)
    # A compiler may allow a little more than the makers' 16 GB: 15.75 GiB on v5e.
    fits = peak * each <= chip.hbm_bytes and (compiled is None or compiled.fits)
    measured = compiled if compiled is not None and compiled.fits else None
    return {
        "fits": fits,
        "estimate": compiled is None,
        "topology": topology.name,
        "chips": topology.chips,
        "devices": topology.devices,
        "mesh": dict(zip(meshes.AXES, mesh, strict=True)),
        "settings": settings(config),
        "layout": PACKED,
        "batch": dataclasses.asdict(shapes),
        "peak_bytes_per_chip": round(peak * each),
        "hbm_bytes_per_chip": chip.hbm_bytes,
        "bytes_per_chip": {
            "parameters": state.parameters * each,
            "optimizer": state.optimizer * each,
            "arguments": measured.argument_bytes * each if measured else None,
            "outputs": measured.output_bytes * each if measured else None,
            "temporaries_estimate": round(temporary * each) if measured or not compiled else None,
        },
        "flops_per_chip": flops / topology.chips,
        "useful_flops_per_chip": useful_flops(config.student, shapes) / topology.chips,
        "hbm_traffic_per_chip": traffic * each,
        "collectives": [dataclasses.asdict(one) | {"bytes": one.bytes * each} for one in sent],
        "collective_bytes_per_chip": bytes_sent,
        "traffic_and_collectives": "compiled" if measured and measured.hlo else "estimate",
        "step_seconds_bound": bound.seconds,
        "bound_by": bound.bound_by,
        "seconds_by": dataclasses.asdict(bound),
        "compile_seconds": compiled.seconds if compiled else None,
        "compile_cpu_seconds": compiled.cpu_seconds if compiled else None,
    }


def settings(config: RunConfig) -> Settings:
    """The macros that decide where a run fits."""
    return {
        "MODEL_PARALLEL": config.train.model_parallel,
        "PARAMETER_SHARDING": config.train.parameter_sharding,
        "MICROBATCHES": config.train.microbatches,
        "REMAT": config.student.remat,
        "SCAN_LAYERS": config.student.scan_layers,
        "DTYPE": config.student.dtype,
    }


def _run(
    config: RunConfig, topology: Topology, shapes: Shapes, seconds: float, price: float | None
) -> Duration:
    hours = seconds * config.train.train_steps / 3600
    return {
        "tokens_per_second": shapes.tokens / seconds,
        "hours": hours,
        "cost": hours * topology.chips * price if price is not None else None,
    }


def _decoding(topology: Topology, rows: int, compiled: Compiled) -> Decoding:
    each = topology.chip.devices
    return {
        "rows": rows,
        "fits": compiled.fits and compiled.peak_bytes * each <= topology.chip.hbm_bytes,
        "peak_bytes_per_chip": compiled.peak_bytes * each,
        "flops_per_chip": compiled.flops / topology.chips,
        "compile_seconds": compiled.seconds,
        "compile_cpu_seconds": compiled.cpu_seconds,
    }
