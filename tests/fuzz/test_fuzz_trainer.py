"""A configuration that is accepted has a training step that can be compiled."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

import tasks  # registers the datasets  # noqa: F401
from distill.config import resolve
from distill.data import cache as caches
from distill.errors import UserError
from distill.training.trainer import make_trainer

# Of macros that change the step and not the data: small values, and those at the edges.
SIZES = (1, 2, 3, 7, 8)
RATES = (0.0, 1e-30, 0.5, 1.0)
VALUES = {
    **dict.fromkeys(["EMBED_DIM", "NUM_HEADS", "HEAD_DIM", "MLP_DIM", "BATCH_SIZE"], SIZES),
    **dict.fromkeys(["NUM_ENCODER_LAYERS", "NUM_DECODER_LAYERS"], (0, 1, 2, 3)),
    **dict.fromkeys(["DROPOUT_RATE", "LABEL_WEIGHT", "RATIONALE_WEIGHT", "Z_LOSS"], RATES),
    **dict.fromkeys(["ADAM_B1", "ADAM_B2", "WEIGHT_DECAY", "CLIP_NORM"], RATES),
    **dict.fromkeys(["LEARNING_RATE", "DIRECTION_INIT", "EMBED_INIT"], RATES),
    **dict.fromkeys(["MICROBATCHES", "MODEL_PARALLEL"], (1, 2, 3, 8)),
    **dict.fromkeys(["TIE_EMBEDDINGS", "SCALE_TIED_LOGITS", "SCAN_LAYERS"], (True, False)),
    "FLOAT32_ATTENTION_LOGITS": [True, False],
    "MLP_ACTIVATIONS": [("relu",), ("gelu", "linear"), ("silu", "linear"), ()],
    "DTYPE": ["float32", "bfloat16", "float64"],
    "REMAT": ["none", "full", "minimal"],
    "OPTIMIZER": ["adamw", "adafactor"],
    "SCHEDULE": ["cosine", "constant", "linear", "rsqrt"],
    "WARMUP_STEPS": [0, 1, 11, 12],
    "NORMALIZATION": ["per_token", "per_sequence", "per_token_batch"],
    "WEIGHTING": ["paired_batches", "mixture_rates"],
    "PARAMETER_SHARDING": ["replicated", "sharded"],
    "LAYOUT": ["auto", "flat", "packed"],
    "VOCAB_SIZE": [1, 64, 1000],
}
chosen_values = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 9), max_size=6)


@pytest.fixture(scope="module")
def cache(resolved, run_dir):
    return caches.open_cache(resolved.run.data)


@pytest.mark.slow  # a step takes a second to trace
@hypothesis.settings(max_examples=hypothesis.settings.default.max_examples // 5)
@hypothesis.given(chosen_values)
@hypothesis.example({"MLP_ACTIVATIONS": 3})
@hypothesis.example({"SCAN_LAYERS": 0, "NUM_ENCODER_LAYERS": 3, "REMAT": 1, "OPTIMIZER": 1})
def test_an_accepted_configuration_has_a_training_step(count, cache, micro, chosen):
    chosen = {name: VALUES[name][index % len(VALUES[name])] for name, index in chosen.items()}
    overrides = [f"{name}={value!r}" for name, value in chosen.items()]
    try:
        run = resolve.resolve(["tickets_step_by_step"], [*micro, *overrides]).run
        trainer = make_trainer(run, cache)
    except UserError as error:
        assert str(error)
        return
    count()
    batch = trainer.stream.batch(0)
    shapes = {k: jax.ShapeDtypeStruct(np.shape(v), v.dtype) for k, v in batch.items()}
    with trainer.program.context():
        traced = trainer.program.train_step.trace(trainer.program.shapes, shapes)
    state, _ = traced.out_info
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(
        lambda x: x.shape, trainer.program.shapes
    )
