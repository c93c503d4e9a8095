"""Our training step and stock T5X's of the same student, both compiled for a slice, side by side.

    python benchmarks/preflight_t5x.py [--size xxl] [--topology v5p:4x4x4] [--optimizer adafactor]

T5X's step is its own: scalable_t5 (scanned layers, bfloat16 activations, minimal remat), its
EncoderDecoderModel, `trainer.train_with_lr`, PjitPartitioner with parameters over both axes
(parameter_partitioning_dims = 2). Both have the same optimizer, lengths, packed features and
(data, model) mesh. Needs libtpu, and T5X on the Python path; without them it says so and stops.

T5X's constraints on activations are in force only within `jax.set_mesh` with a current flax; so
its step is lowered there. --t5x_as_is lowers it as T5X's partitioner does, without them.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import sys
import time

from distill.preflight import compile as compiling
from distill.preflight.chips import GIB, topology

PAIRS = 64  # of a label and a rationale: 128 sequences
LENGTHS = 512, 256
FEATURES = (
    "encoder_input_tokens",
    "encoder_segment_ids",
    "encoder_positions",
    "decoder_input_tokens",
    "decoder_target_tokens",
    "decoder_segment_ids",
    "decoder_positions",
    "decoder_loss_weights",
)


def resolved(options: argparse.Namespace) -> object:
    """The run's configuration."""
    from distill.config.resolve import resolve

    files = [
        "gin/experiments/esnli_mini_step_by_step.gin",
        f"gin/sizes/{options.size}.gin",
        f"gin/meshes/{options.topology.split(':')[0]}_slice.gin",
    ]
    values = {
        "RAW_DIR": "none",
        "VOCABULARY_PATH": "none",
        "BATCH_SIZE": PAIRS,
        "INPUT_LENGTH": LENGTHS[0],
        "TARGET_LENGTH": LENGTHS[1],
        "EMBED_INIT": 1.0,
        "DROPOUT_RATE": 0.1,
        "OPTIMIZER": options.optimizer,
        "MODEL_PARALLEL": options.model_parallel,
        "REMAT": options.remat,
    }
    return resolve(files, [f"{name}={value}" for name, value in values.items()]).run


def ours(config: object, mesh: object) -> compiling.Compiled:
    """The native engine's step."""
    from distill.training.program import make_program

    shapes = compiling.batch_shapes(config, mesh.shape["data"])
    return compiling.compile_step(make_program(config, mesh), shapes)


def theirs(config: object, mesh: object, as_is: bool) -> compiling.Compiled:
    """T5X's step of the same student."""
    import contextlib

    import jax
    from t5x import partitioning, trainer, utils

    class Partitioner(partitioning.PjitPartitioner):
        """T5X's, on devices that are not there."""

        mesh = property(lambda self: mesh)

    began = time.monotonic(), time.process_time()
    rules = partitioning.standard_logical_axis_rules(1, 2)
    partitioner = Partitioner(num_partitions=mesh.shape["model"], logical_axis_rules=rules)
    model, batch = t5x_model(config), t5x_batch(config)
    initial = utils.TrainStateInitializer(
        model.optimizer_def,
        model.get_initial_variables,
        {name: leaf.shape for name, leaf in batch.items()},
        partitioner,
    )
    step = functools.partial(
        trainer.train_with_lr,
        learning_rate=1e-3,
        dropout_rng=jax.random.PRNGKey(0),
        model=model,
        num_microbatches=None,
        data_partition_spec=partitioner.data_partition_spec,
    )
    axes = initial.train_state_axes
    partitioned = partitioner.partition(
        step, (axes, partitioner.data_partition_spec), (axes, None), donate_argnums=(0,)
    )
    with contextlib.nullcontext() if as_is else jax.set_mesh(mesh):
        lowered = partitioned.lower(initial.global_train_state_shape, batch)
    return compiling.compile_lowered(lowered, 0.0, began)


def t5x_model(config: object) -> object:
    """T5X's model of a run's student, with its optimizer."""
    import seqio
    from t5x import adafactor, models
    from t5x.examples.scalable_t5 import network

    from benchmarks.speed_parts.t5x_step import stock_sizes
    from distill.training.optimizer import make_t5x_optimizer

    student, words = config.student, seqio.PassThroughVocabulary(config.student.vocab_size)
    module = network.Transformer(
        network.T5Config(remat_policy=student.remat, **stock_sizes(student))
    )
    optimizer = make_t5x_optimizer(config.optimizer)
    if config.optimizer.name == "adafactor":  # as scalable_t5's gin file has it
        optimizer = adafactor.Adafactor(
            decay_rate=0.8,
            step_offset=0,
            logical_factor_rules=adafactor.standard_logical_factor_rules(),
        )
    return models.EncoderDecoderModel(
        module, words, words, optimizer, loss_normalizing_factor=float(PAIRS)
    )


def t5x_batch(config: object) -> dict:
    """A batch of packed features without data."""
    import jax

    rows = config.train.batch_size * len(config.data.tasks)
    lengths = {"encoder": config.data.input_length, "decoder": config.data.target_length}
    return {name: jax.ShapeDtypeStruct((rows, lengths[name[:7]]), "int32") for name in FEATURES}


def describe(name: str, compiled: compiling.Compiled, mesh: object) -> dict[str, object]:
    """What is compared, of a chip."""
    from distill.preflight import hlo

    program = hlo.parse_hlo(compiled.hlo)
    sent = hlo.collectives(program, (mesh.shape["data"], mesh.shape["model"]))
    return {
        "step": name,
        "fits": compiled.fits,
        "peak_bytes": compiled.peak_bytes,
        "live_bytes": compiled.live_bytes,
        "argument_bytes": compiled.argument_bytes,
        "temporary_bytes": compiled.temporary_bytes,
        "collective_bytes": sum(one.bytes for one in sent),
        "collectives": [dataclasses.asdict(one) for one in sent],
        "traffic_bytes": hlo.traffic(program),
        "cpu_seconds": compiled.cpu_seconds,
    }


def show(found: dict) -> str:
    """A line for people, and one for each kind of collective."""
    kinds = "".join(
        f"\n    {one['kind']:18} {one['axis']:6} {one['count']:5} x {one['bytes'] / 1e9:8.2f} GB"
        for one in found["collectives"]
    )
    return (
        f"{found['step']:6} peak {found['peak_bytes'] / GIB:.2f} GiB a chip (arguments "
        f"{found['argument_bytes'] / GIB:.2f}, temporaries {found['temporary_bytes'] / GIB:.2f}; "
        f"in use at once {found['live_bytes'] / GIB:.2f}), "
        f"sends {found['collective_bytes'] / 1e9:.1f} GB, moves "
        f"{found['traffic_bytes'] / 1e9:.0f} GB, {found['cpu_seconds']:.0f} CPU seconds{kinds}"
    )


def main() -> None:
    """Compiles both and compares."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="xxl")
    parser.add_argument("--topology", default="v5p:4x4x4")
    parser.add_argument("--model_parallel", type=int, default=1)
    parser.add_argument("--remat", default="minimal")
    parser.add_argument("--optimizer", default="adafactor", choices=("adafactor", "adamw"))
    parser.add_argument("--only", choices=("native", "t5x"))
    parser.add_argument("--t5x_as_is", action="store_true")
    parser.add_argument("--hlo_dir", help="where to keep the compiled programs as text")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    needed = ("libtpu",) if options.only == "native" else ("libtpu", "t5x")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"skipped: {' and '.join(missing)} not installed (docs/preflight.md, docs/t5x.md)")
    devices = compiling.topology_devices(topology(options.topology))
    from distill.training.mesh import make_mesh

    mesh, config = make_mesh(options.model_parallel, devices), resolved(options)
    steps = {
        "native": lambda: ours(config, mesh),
        "t5x": lambda: theirs(config, mesh, options.t5x_as_is),
    }
    found = []
    for name, build in steps.items():
        if options.only not in (None, name):
            continue
        compiled = build()
        if options.hlo_dir:
            with open(f"{options.hlo_dir}/{name}.hlo", "w") as file:
                file.write(compiled.hlo)
        found.append(describe(name, compiled, mesh))
        print(json.dumps(found[-1]) if options.json else show(found[-1]), flush=True)


if __name__ == "__main__":
    main()
