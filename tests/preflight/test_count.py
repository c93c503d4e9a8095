"""Operations of a step: jaxpr, sizes, and XLA's own count of the unrolled step agree."""

import functools

import jax
import jax.numpy as jnp
import pytest

from distill.config import resolve
from distill.preflight.compile import abstract_batch
from distill.preflight.count import Shapes, forward_flops, jaxpr_flops, training_flops
from distill.student.decoding import greedy
from distill.training import mesh as meshes
from distill.training.program import make_program

SMALL = (
    "EMBED_DIM=128",
    "MLP_DIM=256",
    "NUM_HEADS=4",
    "HEAD_DIM=32",
    "VOCAB_SIZE=512",
    "NUM_ENCODER_LAYERS=2",
    "NUM_DECODER_LAYERS=1",
    "DROPOUT_RATE=0.0",
)
SHAPES = Shapes(8, 64, 32)


def _run(*overrides):
    return resolve.resolve(["tickets_step_by_step"], (*SMALL, *overrides)).run


@functools.cache
def _traced(*overrides):
    program = make_program(_run(*overrides), meshes.make_mesh(1, jax.devices()[:1]))
    return program.train_step.trace(program.shapes, abstract_batch(SHAPES, None))


@pytest.mark.parametrize("scan", ["True", "False"])
@pytest.mark.parametrize("remat", ["none", "minimal", "full"])
@pytest.mark.parametrize("parts", [1, 2])
def test_jaxpr_and_sizes_agree(scan, remat, parts):
    overrides = f"SCAN_LAYERS={scan}", f"REMAT={remat}", f"MICROBATCHES={parts}"
    counted = jaxpr_flops(_traced(*overrides).jaxpr)
    assert counted == pytest.approx(training_flops(_run(*overrides).student, SHAPES, parts), 1e-6)


@pytest.mark.parametrize("remat", ["none", "minimal", "full"])
@pytest.mark.parametrize("wide", ["True", "False"])
def test_they_agree_in_bfloat16(remat, wide):
    scores = f"FLOAT32_ATTENTION_LOGITS={wide}"
    overrides = "SCAN_LAYERS=True", f"REMAT={remat}", "DTYPE=bfloat16", scores
    counted = jaxpr_flops(_traced(*overrides).jaxpr)
    assert counted == pytest.approx(training_flops(_run(*overrides).student, SHAPES), 1e-6)


def test_the_unrolled_compile_agrees():
    """XLA counts what is not a product as well, so it may have a little more."""
    unrolled = _traced("SCAN_LAYERS=False", "REMAT=none", "MICROBATCHES=1")
    by_xla = unrolled.lower().compile().cost_analysis()["flops"]
    for scan in ("False", "True"):
        traced = _traced(f"SCAN_LAYERS={scan}", "REMAT=none", "MICROBATCHES=1")
        assert jaxpr_flops(traced.jaxpr) == pytest.approx(by_xla, rel=0.05)


def test_a_loop_counts_as_often_as_it_runs():
    square = jnp.zeros((8, 8))

    def looped(x):
        x, _ = jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=5)
        x = jax.lax.while_loop(lambda c: c[0, 0] > 0, lambda c: c @ c, x)
        return jax.lax.cond(x[0, 0] > 0, lambda c: c @ c @ c, lambda c: c @ c, x)

    jaxpr = jax.make_jaxpr(looped)(square)
    assert jaxpr_flops(jaxpr, while_trips=3) == 2 * 8**3 * (5 + 3 + 2)


def test_decoding_grows_with_its_length():
    """Positions of one token each: the encoder once, the decoder for each of them."""
    run = _run()
    params = make_program(run, meshes.make_mesh(1, jax.devices()[:1])).shapes.params
    tokens = jax.ShapeDtypeStruct((4, 64), jnp.int32)
    jaxpr = greedy.trace(params, run.student, tokens, 16).jaxpr
    once, thrice = (jaxpr_flops(jaxpr, trips) for trips in (1, 3))
    encoder = forward_flops(run.student, Shapes(4, 64, 0))
    step = (thrice - once) / 2
    assert once - step == pytest.approx(encoder, rel=0.05)
    assert step == pytest.approx(
        forward_flops(run.student, Shapes(4, 64, 1)) - encoder, rel=0.25
    )  # the cache is attended to as a whole
