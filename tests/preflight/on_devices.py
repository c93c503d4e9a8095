"""Run with 4 CPU devices by test_on_devices.py: prints one JSON object.

For each layout of parameters: loss and gradient norm of three steps, how far gradients and
parameters are from one device's, the share of the state that a device holds, what the compiled
step says of its arguments and outputs beside the live arrays' bytes, and what is decoded.
"""

import json
import sys

import jax
import numpy as np
import optax

from distill.config import resolve
from distill.preflight import hlo
from distill.preflight.compile import abstract_batch, abstract_state
from distill.preflight.count import Shapes
from distill.preflight.estimate import state_bytes
from distill.student.decoding import greedy
from distill.training import mesh as meshes
from distill.training.program import make_program

SHAPES = Shapes(8, 16, 8)
LAYOUTS = {
    "one": (1, 1, "replicated"),
    "replicated": (4, 1, "replicated"),
    "zero": (4, 1, "zero"),
    "zero and tensor": (4, 2, "zero"),
}


def batch() -> dict[str, np.ndarray]:
    """A batch of random tokens, each row one segment."""
    rng = np.random.default_rng(0)
    found = {}
    for name, leaf in abstract_batch(SHAPES, None).items():
        found[name] = rng.integers(2, 200, leaf.shape).astype(leaf.dtype)
        if name.endswith(("segment_ids", "loss_weights")):
            found[name] = np.ones_like(found[name])
        elif name.endswith("task_ids"):
            found[name] %= 2
    return found


def local_bytes(tree: object) -> int:
    """Bytes of a tree's arrays on the first device."""
    device = jax.devices()[0]
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


def distance(ours: object, theirs: object) -> float:
    """The largest norm of a difference, relative to the leaf's."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-9)) for a, b in pairs)


def measure(overrides: list[str], layout: tuple[int, int, str]) -> tuple[dict, object, object]:
    """Three steps of a layout: what is printed of it, gradients, parameters."""
    devices, model, sharding = layout
    settings = (f"MODEL_PARALLEL={model}", f"PARAMETER_SHARDING={sharding}")
    config = resolve.resolve(["tickets_step_by_step"], (*overrides, *settings)).run
    program = make_program(config, meshes.make_mesh(model, jax.devices()[:devices]))
    rows = batch()
    with program.context():
        compiled = program.train_step.lower(
            abstract_state(program), abstract_batch(SHAPES, program.mesh)
        ).compile()
        put = meshes.put_batch(rows, program.mesh)
        state = program.init()
        # jax leaves out what the step does not read.
        read = {name: array for name, array in put.items() if "positions" not in name}
        memory = compiled.memory_analysis()
        found = {
            "arguments": [memory.argument_size_in_bytes, local_bytes((state, read))],
            "state": local_bytes(state),
            "metrics": [],
            "collectives": [
                [one.kind, one.axis, one.bytes]
                for one in hlo.collectives(
                    hlo.parse_hlo(compiled.as_text()), (devices // model, model)
                )
            ],
            "parameters": sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)),
            "counted_state": state_bytes(
                config.student, config.optimizer, sharding, program.mesh
            ).total,
        }
        for step in range(3):
            state, metrics = compiled(state, put)
            if step == 0:
                # AdamW's first moment after one step is the gradient, times a constant.
                gradients = jax.device_get(optax.tree_utils.tree_get(state.opt_state, "mu"))
            found["metrics"] += [float(metrics["loss"]), float(metrics["grad_norm"])]
        # On CPUs a result of several arrays comes with a table of 8 bytes for each.
        outputs = state, metrics
        table = 8 * len(jax.tree.leaves(outputs))
        found["outputs"] = [memory.output_size_in_bytes - table, local_bytes(outputs)]
    inputs = meshes.shard_like_params(state.params, rows["encoder_input_tokens"])
    found["decoded"] = meshes.to_host(greedy(state.params, config.student, inputs, 4)).tolist()
    found["inputs_of_a_device"] = local_bytes(jax.numpy.asarray(inputs)) / inputs.nbytes
    return found, gradients, jax.device_get(state.params)


def main(overrides: list[str]) -> None:
    """Prints the measurements of all layouts."""
    results, one = {}, None
    for name, layout in LAYOUTS.items():
        found, gradients, params = measure(overrides, layout)
        one = one or (gradients, params)
        found["gradients"], found["params"] = distance(gradients, one[0]), distance(params, one[1])
        results[name] = found
    print(json.dumps(results))


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    main(sys.argv[1:])
