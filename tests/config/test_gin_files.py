"""Every gin file parses; layers bind what they may; each size is what it says."""

import dataclasses
import pathlib

import gin
import jax
import pytest
from published_sizes import PUBLISHED

from distill.config import defaults, fields, files, macros, resolve, stored
from distill.config.run import RunConfig
from distill.errors import UserError
from distill.student.params import param_count, param_shapes

EXPERIMENTS = files.list_gin_files("experiments")
SIZES = files.list_gin_files("sizes")
SIZE_MACROS = {
    "EMBED_DIM",
    "MLP_DIM",
    "NUM_HEADS",
    "HEAD_DIM",
    "NUM_ENCODER_LAYERS",
    "NUM_DECODER_LAYERS",
    "TIE_EMBEDDINGS",
}
METHOD_MACROS = {"METHOD", "LABEL_SOURCE", "LABEL_WEIGHT", "RATIONALE_WEIGHT", "NORMALIZATION"}
# What a file of the user would set: paths that need not exist for the configuration's checks.
PATHS = ("RAW_DIR=somewhere", "VOCABULARY_PATH=t5.model")


# What a checkpoint sets (distill/config/adopted.py).
CHECKPOINT = (
    *("INIT_FROM=somewhere", "VOCABULARY=bytes", "VOCAB_SIZE=384", "EMBED_DIM=8", "MLP_DIM=8"),
    *("NUM_HEADS=2", "HEAD_DIM=4", "NUM_ENCODER_LAYERS=2", "NUM_DECODER_LAYERS=1"),
)


def _overrides(experiment: str) -> tuple[str, ...]:
    if "_pretrained" in experiment:
        return CHECKPOINT
    return PATHS if "_mini_" in experiment else ()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_resolve_and_finalize(experiment):
    resolved = resolve.resolve([experiment], _overrides(experiment))
    again = fields.build_run(stored.load_stored(resolved.text.encode(), "config.gin"))
    assert again == resolved.run  # what the run folder stores is the whole configuration


def test_a_configuration_from_before_a_macro_takes_its_default():
    resolved = resolve.resolve(["tickets_step_by_step"])
    values = stored.load_stored(resolved.text.encode(), "config.gin")
    for binding in fields.bindings():
        if binding.default is not fields.REQUIRED and values[binding.macro] == binding.default:
            without = {name: v for name, v in values.items() if name != binding.macro}
            assert fields.build_run(without) == resolved.run, binding
    del values["TRAIN_STEPS"]
    with pytest.raises(UserError, match="macro TRAIN_STEPS must be set"):
        fields.build_run(values)
    for name in ("EMBED_DIM", "NUM_HEADS"):
        del values[name]
    expected = r"macros EMBED_DIM, NUM_HEADS, TRAIN_STEPS must be set: --size=NAME sets EMBED_DIM, "
    with pytest.raises(UserError, match=expected + "NUM_HEADS; --gin.TRAIN_STEPS=... and so on"):
        fields.build_run(values)


def test_all_macros_that_a_run_needs_are_named_at_once():
    with pytest.raises(UserError, match=r"macros BATCH_SIZE, DATASET, EMBED_DIM.*VOCAB_SIZE must"):
        resolve.resolve(["gin/runs/train.gin"])


def test_defaults_have_one_source():
    """gin/engines/defaults.gin is what the dataclasses say."""
    written = (files.gin_root() / defaults.FILE).read_text()
    assert written == defaults.render(), "run python -m distill.config.defaults"


@pytest.mark.parametrize("name", ["gin/runs/train.gin", "gin/data/common.gin"])
def test_a_layer_sets_what_differs(name):
    """Layers that replace each other (sizes, methods, meshes, datasets) set all their macros."""
    for macro, settings in macros.read_gin([files.resolve_path(name)]).history.items():
        assert settings[-1].value != fields.defaults().get(macro), macro


def test_gin_itself_gives_the_same_configuration():
    """T5X reads with gin what distill reads as data."""
    experiment = files.resolve_path("tickets_step_by_step")
    gin.clear_config()
    gin.add_config_file_search_path(str(files.gin_root()))
    gin.parse_config_files_and_bindings(
        [files.resolve_path("gin/engines/native.gin"), experiment], ""
    )
    assert gin.get_configurable(RunConfig)() == resolve.resolve([experiment]).run
    with gin.unlock_config():
        gin.clear_config()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_are_short_and_say_what_they_are(experiment):
    lines = pathlib.Path(files.resolve_path(experiment)).read_text().splitlines()
    for word in ("# Paper row:", "# Command:", "# Expected time:", "# Measured:"):
        assert any(line.startswith(word) for line in lines), word
    own = [line for line in lines if line and not line.startswith(("#", "include"))]
    assert len(own) <= 10
    assert f"gin/experiments/{pathlib.Path(experiment).name}" in "".join(lines)


@pytest.mark.parametrize("name", files.list_gin_files())
def test_headers_and_layers(name):
    """Only engines bind configurables and import; sizes and methods set their macros alone."""
    text = pathlib.Path(files.resolve_path(name)).read_text()
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
    found = macros.read_gin([files.resolve_path(name)])
    allowed = {"sizes": SIZE_MACROS, "methods": METHOD_MACROS}.get(name.split("/")[1])
    if allowed:
        assert set(found.history) == allowed


def test_a_mesh_file_of_a_chip_includes_one_file_and_every_setting_stands_once():
    settings = {}
    for name in files.list_gin_files("meshes"):
        lines = pathlib.Path(files.resolve_path(name)).read_text().splitlines()
        bindings = tuple(line for line in lines if line and not line.startswith("#"))
        if name.endswith(("_host.gin", "_slice.gin")):
            assert len(bindings) == 1 and bindings[0].startswith("include 'gin/meshes/zero_"), name
        else:
            assert bindings not in settings, (name, settings[bindings])
            settings[bindings] = name
    assert len(settings) == 8


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_sizes_have_the_published_parameters(family, size):
    """Counted without an allocation, and with scanned layers, of which only one is traced."""
    names = ["tickets_finetune", f"gin/models/{family}.gin", f"gin/sizes/{size}.gin"]
    # The files of the two families with another vocabulary set it.
    vocabulary = () if family in ("mt5", "byt5") else ("VOCAB_SIZE=32128",)
    student = resolve.resolve(names, ("VOCABULARY_PATH=a.model", *vocabulary)).run.student
    count, rounded = PUBLISHED[family, size]
    assert param_count(dataclasses.replace(student, scan_layers=True)) == count
    unit = 1e6 if rounded.endswith("M") else 1e9
    assert float(rounded[:-1]) * unit == pytest.approx(count, rel=0.06)


def test_every_published_size_is_tested():
    files_of = {pathlib.Path(name).stem for name in SIZES}
    assert files_of - {size for _, size in PUBLISHED} == {"tiny", "mini"}
    families = {pathlib.Path(name).stem for name in files.list_gin_files("models")}
    assert families == {family for family, _ in PUBLISHED}


@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_own_sizes_have_the_parameters_that_they_say(size):
    names = ["tickets_finetune", f"gin/sizes/{size}.gin"]
    vocab_size, count = {"tiny": (213, 132_000), "mini": (32_128, 22.7e6)}[size]
    student = resolve.resolve(names, (f"VOCAB_SIZE={vocab_size}",)).run.student
    assert param_count(student) == pytest.approx(count, rel=0.005)


def test_parameters_are_float32():
    student = resolve.resolve(["tickets_finetune"], ("DTYPE=bfloat16",)).run.student
    leaves = jax.tree.leaves(param_shapes(student))
    assert all(leaf.dtype == jax.numpy.float32 for leaf in leaves)


@pytest.mark.slow
def test_small_sizes_take_a_step(micro):
    """tiny and mini, at full width, on a small vocabulary."""
    import numpy as np

    from distill.data import cache
    from distill.training.trainer import make_trainer

    data = [
        text for text in micro if text.split("=")[0].startswith(("NUM_ROWS", "NUM_T", "NUM_LAB"))
    ]
    for size in ("tiny", "mini"):
        run = resolve.resolve(
            ["tickets_step_by_step", f"gin/sizes/{size}.gin"], (*data, "BATCH_SIZE=2")
        ).run
        trainer = make_trainer(run, cache.load_cache(run.data))
        state, metrics = trainer.train_step(trainer.init(), trainer.stream.batch(0))
        assert int(state.step) == 1
        assert np.all(np.isfinite(metrics["losses"])) and float(metrics["grad_norm"]) > 0


def test_a_folder_of_gin_files_is_named_with_its_files(tmp_path):
    for name in ("data.gin", "experiment.gin"):
        (tmp_path / name).write_text("SEED = 1\n")
    expected = f"it is a folder; give one of its files: {tmp_path}/data.gin, {tmp_path}/experiment"
    with pytest.raises(UserError, match=expected):
        files.resolve_path(str(tmp_path))


def test_an_include_beside_the_including_file_names_the_folder_to_run_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "rows_of_task.gin").write_text("SEED = 1\n")
    (folder / "experiment.gin").write_text("include 'rows_of_task.gin'\n")
    expected = r"task/rows_of_task.gin exists, so run the command in task$"
    with pytest.raises(UserError, match=expected):
        resolve.resolve(["task/experiment.gin"])


def test_what_is_no_literal_is_named_alone():
    options = {"train_file": b"x", "fields": {}}
    with pytest.raises(UserError, match=r"got DATASET_OPTIONS\['train_file'\] = b'x', expected"):
        stored.dump({"DATASET_OPTIONS": options})
    with pytest.raises(UserError, match=r"got SEED = inf, expected"):
        stored.dump({"SEED": float("inf")})
