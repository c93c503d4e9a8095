"""Makes step_costs.json: what the compiled training step costs, counted and not timed.

    python tests/golden/make_step_costs.py            native steps
    python tests/golden/make_step_costs.py --t5x      stock T5X's as well (where it imports)

Without --t5x, T5X's numbers stay as they are. Of each step:

  products          operations of matrix products in its jaxpr, a scan's body counted as often as it
                    runs (XLA's own count has it once)
  bytes             memory traffic of the optimized program, loops counted as they run
  temporary_bytes   what XLA's CPU compiler reserves besides arguments and results
  argument_bytes    state and batch

Compiled for this machine's CPU; products and arguments are the same everywhere. Rows are random
and have the lengths of CommonsenseQA's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys

import jax
import jaxlib
import numpy as np

from benchmarks import gpu_workload as workload
from distill.config.run import RunConfig
from distill.data.batching.batches import FLAT, PACKED, BatchStream
from distill.preflight import hlo
from distill.preflight.count import jaxpr_flops
from distill.training import mesh as meshes
from distill.training.program import make_program

FILE = pathlib.Path(__file__).with_name("step_costs.json")
SIZES = {
    "micro": {
        "vocab_size": 32128,
        "embed_dim": 64,
        "head_dim": 16,
        "mlp_dim": 128,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
    },
    "mini": {},
}
PAIRS = {"micro": 8, "mini": 32}
OPTIMIZERS = ("adamw", "adafactor")
LENGTHS = 320, 112


def make_run(size: str, optimizer: str) -> RunConfig:
    """A run of gin/sizes/mini.gin with tied embeddings, or of a student of its shape."""
    student = dataclasses.replace(
        workload.student("mini", "float32"), tie_embeddings=True, dropout_rate=0.1, **SIZES[size]
    )
    run = workload.run_config(student, PAIRS[size], *LENGTHS)
    return dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, name=optimizer))


def make_batch(run: RunConfig, layout: str) -> dict[str, np.ndarray]:
    """The first batch."""
    cache = workload.synthetic_rows(64 * run.train.batch_size)
    stream = BatchStream(cache, run.data, run.weighting, run.train.batch_size, 0, layout=layout)
    return stream.batch(0)


def native(size: str, layout: str, optimizer: str) -> dict[str, float]:
    """The native step's costs."""
    run = make_run(size, optimizer)
    program = make_program(run, meshes.make_mesh(1, jax.devices()[:1]))
    with program.context():
        traced = program.train_step.trace(program.shapes, make_batch(run, layout))
        return costs(traced.lower().compile()) | {"products": jaxpr_flops(traced.jaxpr)}


def stock(size: str, optimizer: str) -> dict[str, float]:
    """Stock T5X's, of the same packed rows."""
    from benchmarks.speed_parts import t5x_step

    run = make_run(size, optimizer)
    batch = t5x_step.features(make_batch(run, PACKED))
    return costs(t5x_step.StockStep(run, batch, float(run.train.batch_size)).compiled)


def costs(compiled: jax.stages.Compiled) -> dict[str, float]:
    """What the compiler tells."""
    memory = compiled.memory_analysis()
    return {
        "bytes": hlo.traffic(hlo.parse_hlo(compiled.as_text())),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
    }


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--t5x", action="store_true", help="stock T5X's as well")
    options = parser.parse_args()
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    found["jaxlib"] = jaxlib.__version__
    found["native"] = {
        f"{size} {layout} {optimizer}": native(size, layout, optimizer)
        for size in SIZES
        for layout in (PACKED, FLAT)
        for optimizer in OPTIMIZERS
    }
    if options.t5x:
        found["t5x"] = {
            f"{size} packed {optimizer}": stock(size, optimizer)
            for size in SIZES
            for optimizer in OPTIMIZERS
        }
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
