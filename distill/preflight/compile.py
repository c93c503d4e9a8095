"""Ahead-of-time compilation of a run's own programs for devices that need not exist.

What is compiled is what training runs (`distill.training.program`) and what evaluation decodes
labels with (`distill.student.decoding.greedy`), of abstract arrays: no parameter is allocated.
libtpu from PyPI compiles for every slice on a machine without a TPU.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from distill.common.devices import NO_TPU_HOST, variables
from distill.common.progress import Stage
from distill.config.run import RunConfig
from distill.errors import UserError
from distill.preflight.chips import Topology
from distill.preflight.count import Shapes, jaxpr_flops

if TYPE_CHECKING:
    import jax

    from distill.training.program import Program
    from distill.training.step import TrainState

# Before jax starts: the programs for TPUs are compiled here, and none runs.
OF_JAX = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
# While libtpu is loaded: no questions to a metadata server, no lock on a TPU, no complaint that
# this machine is no TPU host.
_OF_LIBTPU = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", **NO_TPU_HOST}
INSTALL = 'pip install -e ".[tpu]"'
# Two ways of libtpu: everything together, or temporaries alone that are too large already.
_ALL_TOO_LARGE = re.compile(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", re.IGNORECASE)
_TEMPORARIES_TOO_LARGE = re.compile(
    r"required for HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM", re.IGNORECASE
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compilation tells, per device.

    Attributes:
      fits: whether the compiler could place everything in the device's memory.
      flops: of the products of the whole program, on all devices (see `jaxpr_flops`).
      argument_bytes, output_bytes: exact.
      temporary_bytes: what the compiler reserves for everything else.
      peak_bytes: what has to be free: arguments, outputs not in their place, and all that is
        reserved; where the program does not fit, what the compiler says it would have needed.
      live_bytes: the most that is in use at once by the compiler's count, 0 if it has none. The
        rest of the peak lies between buffers.
      hlo: the optimized program as text, empty where it does not fit or jaxlib cannot read
        what libtpu wrote (versions that are not made for each other).
      seconds, cpu_seconds: of tracing and compiling.
    """

    fits: bool
    flops: float
    argument_bytes: int
    output_bytes: int
    temporary_bytes: int
    peak_bytes: int
    live_bytes: int
    hlo: str
    seconds: float
    cpu_seconds: float


def has_libtpu() -> bool:
    """Whether libtpu is installed; it is not loaded."""
    return importlib.util.find_spec("libtpu") is not None


def topology_devices(topology: Topology) -> list[jax.Device]:
    """The devices of a slice, for compilation alone.

    Raises:
      UserError: libtpu is not installed, or does not know the slice.
    """
    if not has_libtpu():
        raise UserError(f"compiling for a TPU needs libtpu: {INSTALL}")
    from jax.experimental import topologies

    chip = topology.chip
    options = {"chip_config_name": chip.config_name} if chip.config_name else {}
    try:
        with variables(_OF_LIBTPU):
            description = topologies.get_topology_desc(
                platform="tpu", topology_name=topology.platform_name, **options
            )
    except Exception as error:  # jax's own class for all that libtpu refuses
        raise UserError(
            f"got --topology={topology.name}, which libtpu rejects: {str(error).splitlines()[0]}"
        ) from None
    devices = list(description.devices)
    if len(devices) != topology.devices:
        raise UserError(
            f"libtpu reports {len(devices)} devices for {topology.name}, expected "
            f"{topology.devices}: this version of libtpu counts devices differently"
        )
    return devices


def batch_shapes(config: RunConfig, data_devices: int, rows: int | None = None) -> Shapes:
    """The shape of a batch, of the macros alone: no data is read.

    A batch has BATCH_SIZE sequences of each task, or of both tasks joined. Unpacked each is a row,
    which is the most that packing can need, so that is the bound; it is rounded up to a multiple of
    data-parallel devices times MICROBATCHES, as training does.

    Args:
      config: the run.
      data_devices: that split the batch.
      rows: of a packed batch, where they are known.
    """
    rows = rows or config.train.batch_size * config.data.sequences_per_row
    multiple = data_devices * config.train.microbatches
    lengths = config.data.input_length, config.data.target_length
    return Shapes(-(-rows // multiple) * multiple, *lengths)


def abstract_batch(shapes: Shapes, mesh: jax.sharding.Mesh | None) -> dict:
    """A batch of `distill.data.batching.packing.pack` without data, laid out over a mesh."""
    import jax

    from distill.data.batching import packing
    from distill.training.mesh import batch_sharding

    sharding = None if mesh is None else batch_sharding(mesh)
    template = packing.pack([], [], 1, shapes.inputs, shapes.targets)
    return {
        name: jax.ShapeDtypeStruct((shapes.rows, *a.shape[1:]), a.dtype, sharding=sharding)
        for name, a in template.items()
    }


def abstract_state(program: Program) -> TrainState:
    """A program's state without values, laid out as training has it."""
    import jax

    state: TrainState = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        program.shapes,
        program.shardings,
    )
    return state


def compile_step(program: Program, shapes: Shapes) -> Compiled:
    """Compiles the training step for the program's devices."""
    began = time.monotonic(), time.process_time()
    with program.context(), Stage("compiling the training step"):
        batch = abstract_batch(shapes, program.mesh)
        jitted: Any = program.train_step
        traced = jitted.trace(abstract_state(program), batch)
        return compile_lowered(traced.lower(), jaxpr_flops(traced.jaxpr), began)


def compile_decoding(config: RunConfig, program: Program, length: int) -> Compiled:
    """Compiles greedy decoding of EVAL_BATCH_SIZE rows, as evaluation runs it.

    Args:
      config: the run.
      program: whose parameters and devices it is for.
      length: positions that are decoded.
    """
    import jax
    import jax.numpy as jnp

    from distill.student.decoding import greedy
    from distill.training.mesh import rows_sharding

    began = time.monotonic(), time.process_time()
    shape = config.train.eval_batch_size, config.data.input_length
    rows = rows_sharding(program.mesh, shape[0])
    tokens = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=rows)
    with Stage("compiling decoding"):
        traced = greedy.trace(abstract_state(program).params, config.student, tokens, length)
        flops = jaxpr_flops(traced.jaxpr, while_trips=length)
        return compile_lowered(traced.lower(), flops, began)


def compile_lowered(
    lowered: jax.stages.Lowered, flops: float, began: tuple[float, float]
) -> Compiled:
    """Compiles what was lowered; a program that does not fit is an answer, not an error.

    Args:
      lowered: for the devices of a slice.
      flops: of its products, which it does not tell itself.
      began: monotonic and processor time when tracing began.
    """
    import jax

    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed, temporaries = out_of_memory(str(error))
        if not needed:
            raise
        return Compiled(False, flops, 0, 0, temporaries, needed, 0, "", *_since(began))
    memory: Any = compiled.memory_analysis()
    allocated = memory.argument_size_in_bytes + memory.output_size_in_bytes
    allocated += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    live = getattr(memory, "peak_memory_in_bytes", 0)
    return Compiled(
        True,
        flops,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.temp_size_in_bytes,
        max(live, allocated),
        live,
        _text(compiled),
        *_since(began),
    )


def out_of_memory(message: str) -> tuple[int, int]:
    """What libtpu says a program needs that is too large for a device's memory.

    Returns:
      Bytes of everything, at least, and of temporaries where they are told; 0, 0 for a message
      of something else.
    """
    for pattern in (_ALL_TOO_LARGE, _TEMPORARIES_TOO_LARGE):
        match = pattern.search(message)
        if match:
            needed = int(float(match[1]) * _UNITS[match[2].upper()])
            return needed, needed if pattern is _TEMPORARIES_TOO_LARGE else 0
    return 0, 0


def _text(compiled: jax.stages.Compiled) -> str:
    import jax

    try:
        return compiled.as_text() or ""
    except jax.errors.JaxRuntimeError as error:
        print(
            f"the compiled program cannot be parsed ({str(error).splitlines()[0]}), so traffic and "
            f"collectives are estimates. This libtpu is not the version that jax {jax.__version__} "
            f"requires: {INSTALL}",
            file=sys.stderr,
        )
        return ""


def _since(began: tuple[float, float]) -> tuple[float, float]:
    return time.monotonic() - began[0], time.process_time() - began[1]
