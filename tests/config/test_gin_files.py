"""Every gin file parses; layers bind what they may; each size is what it says."""

import pathlib

import gin
import jax
import pytest

from distill.config import files, macros, resolve
from distill.errors import UserError
from distill.student.params import param_count, param_shapes

EXPERIMENTS = files.list_gin_files("experiments")
SIZES = files.list_gin_files("sizes")
SIZE_MACROS = {
    "EMBED_DIM", "MLP_DIM", "NUM_HEADS", "HEAD_DIM", "NUM_ENCODER_LAYERS", "NUM_DECODER_LAYERS",
    "TIE_EMBEDDINGS",
}  # fmt: skip
METHOD_MACROS = {"METHOD", "LABEL_SOURCE", "LABEL_WEIGHT", "RATIONALE_WEIGHT", "NORMALIZATION"}
# What a file of the user would set: paths that need not exist for the configuration's checks.
PATHS = ("RAW_DIR=somewhere", "VOCABULARY_PATH=t5.model")


def _overrides(experiment: str) -> tuple[str, ...]:
    return PATHS if "_mini_" in experiment else ()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_resolve_and_finalize(experiment):
    resolved = resolve.resolve([experiment], _overrides(experiment))
    gin.finalize()
    with gin.unlock_config():
        gin.clear_config()
    again = resolve.build_run(resolved.text)
    assert again == resolved.run  # what the run folder stores is the whole configuration


def test_a_configuration_without_a_macro_says_which_line_to_add():
    """That of a run folder from before the macro; one that the engine's file sets may be absent."""
    lines = resolve.resolve(["returns_step_by_step"]).text.splitlines(keepends=True)
    without = [line for line in lines if not line.startswith("PARAMETER_SHARDING")]
    assert len(without) == len(lines) - 1 and resolve.build_run("".join(without))
    without = [line for line in lines if not line.startswith("DIRECTION_INIT")]
    with pytest.raises(UserError, match=r"no value for DIRECTION_INIT, .*a line DIRECTION_INIT"):
        resolve.build_run("".join(without))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_are_short_and_say_what_they_are(experiment):
    lines = pathlib.Path(files.resolve(experiment)).read_text().splitlines()
    for word in ("# Paper row:", "# Command:", "# Expected time:", "# Measured:"):
        assert any(line.startswith(word) for line in lines), word
    own = [line for line in lines if line and not line.startswith(("#", "include"))]
    assert len(own) <= 10
    assert f"gin/experiments/{pathlib.Path(experiment).name}" in "".join(lines)


@pytest.mark.parametrize("name", files.list_gin_files())
def test_headers_and_layers(name):
    """Only engines bind configurables and import; sizes and methods set their macros alone."""
    text = pathlib.Path(files.resolve(name)).read_text()
    assert text.startswith("# ")
    if "/experiments/" not in name:
        header = text.split("\n\n")[0]
        assert all(word in header for word in ("Provides:", "Requires", "Override")), header
    if "/engines/" not in name:
        bindings = [line for line in text.splitlines() if line.startswith("import")]
        assert not bindings and "native" not in text.replace("ENGINE = 'native'", "").replace(
            "native knows", ""
        )
    if "/experiments/" in name or "/engines/" in name:
        return
    found = macros.read([files.resolve(name)])
    allowed = {"sizes": SIZE_MACROS, "methods": METHOD_MACROS}.get(name.split("/")[1])
    if allowed:
        assert set(found.history) == allowed


@pytest.mark.parametrize("name", SIZES)
def test_sizes_have_the_published_parameters(name):
    """T5 v1.1: 77M, 248M, 783M, 2.85B, 11.1B with T5's vocabulary, untied."""
    size = pathlib.Path(name).stem
    run = resolve.resolve(["gin/experiments/esnli_mini_finetune.gin", name], PATHS).run
    published = {
        "small": 77e6, "base": 248e6, "large": 783e6, "xl": 2.85e9, "xxl": 11.1e9, "mini": 22.7e6,
    }  # fmt: skip
    count = param_count(run.student)
    if size in published:
        assert count == pytest.approx(published[size], rel=0.005)
    if size in ("large", "xl", "xxl"):
        shapes = param_shapes(run.student)
        assert all(leaf.dtype == jax.numpy.float32 for leaf in jax.tree.leaves(shapes))


def test_small_sizes_take_a_step(micro):
    """tiny and mini, at full width, on a small vocabulary."""
    import numpy as np

    from distill.data import cache
    from distill.train.loop import make_trainer

    data = [
        text for text in micro if text.split("=")[0].startswith(("NUM_ROWS", "NUM_T", "NUM_LAB"))
    ]
    for size in ("tiny", "mini"):
        run = resolve.resolve(
            ["returns_step_by_step", f"gin/sizes/{size}.gin"], (*data, "BATCH_SIZE=2")
        ).run
        trainer = make_trainer(run, cache.load(run.data))
        state, metrics = trainer.train_step(trainer.init(), trainer.stream.batch(0))
        assert int(state.step) == 1
        assert np.all(np.isfinite(metrics["losses"])) and float(metrics["grad_norm"]) > 0
