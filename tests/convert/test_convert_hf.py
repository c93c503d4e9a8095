"""`distill convert --from=hf`: a folder alone becomes a run folder that answers and trains on."""

from __future__ import annotations

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from saved_state import state_of

from distill import cli
from distill.config import resolve
from distill.convert import streaming
from distill.huggingface.config_json import read_config
from distill.huggingface.read import read_params
from distill.training.optimizer import make_optimizer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FOLDER = GOLDEN / "hf_loss"  # it has a vocabulary
TEXT = "my kettle arrived broken"


def convert(folder, run_dir, *flags):
    return cli.main(
        ["convert", "--from=hf", f"--checkpoint={folder}", f"--run_dir={run_dir}", *flags]
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("hf") / "run"
    assert convert(FOLDER, run_dir) == 0
    return run_dir


def test_the_run_folder_has_parameters_sizes_and_vocabulary(converted):
    config, state = state_of(converted)
    folder = read_config(FOLDER)
    for name, value in folder.macros.items():
        assert getattr(config.student, name.lower()) == value, name
    assert config.data.vocabulary == "sentencepiece"
    vocabulary = converted / "vocabulary" / "sentencepiece.model"
    assert vocabulary.read_bytes() == (FOLDER / "spiece.model").read_bytes()
    expected = read_params(FOLDER, config.student)
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)
    assert int(state.step) == 0
    # The optimizer and the key of dropout are those of a run that starts.
    started = make_optimizer(config.optimizer).init(expected)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, started)
    key = jax.random.split(jax.random.key(config.train.seed))[1]
    np.testing.assert_array_equal(state.dropout_key, jax.random.key_data(key))


def test_it_answers(converted, tmp_path):
    import distill

    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": TEXT}) + "\n")
    out = tmp_path / "answers.jsonl"
    assert (
        cli.main(["predict", f"--run_dir={converted}", f"--input={rows}", f"--output={out}"]) == 0
    )
    assert json.loads(out.read_text())["input"] == TEXT
    assert distill.load(converted) is not None


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_optimizers_start_with_what_is_written(optimizer):
    """Nothing but zeros, also where Adafactor's moments are factored."""
    run = resolve.resolve(["tickets_finetune"], (f"OPTIMIZER={optimizer}",)).run
    params = {"a": np.ones((130, 140), np.float32), "b": np.ones((3,), np.float32)}
    expected = make_optimizer(run.optimizer).init(params)
    written = jax.tree.map(lambda leaf: leaf.read(), streaming.first_moments(run, params))
    jax.tree.map(np.testing.assert_array_equal, written, expected)
    assert jax.tree.structure(written) == jax.tree.structure(expected)


def test_scanned_layers_are_stacked(tmp_path):
    assert convert(FOLDER, tmp_path / "run", "--gin.SCAN_LAYERS=True") == 0
    config, state = state_of(tmp_path / "run")
    expected = read_params(FOLDER, config.student)
    assert "layers_0" not in expected["encoder"]
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)


def test_a_gin_file_sets_the_rest_and_the_folder_the_sizes(tmp_path, capsys):
    settings = ["--gin.LABELS=('refund', 'shipping')", "--gin.TARGET_LENGTH=8"]
    flags = ["--gin_file=jsonl_pretrained", *settings]
    assert convert(FOLDER, tmp_path / "run", *flags) == 0
    config, _ = state_of(tmp_path / "run")
    assert config.data.target_length == 8
    labels = json.loads((tmp_path / "run" / "student.json").read_text())["labels"]
    assert labels == ["refund", "shipping"]
    capsys.readouterr()
    assert convert(FOLDER, tmp_path / "small", "--gin_file=jsonl_pretrained", "--size=small") == 2
    message = capsys.readouterr().err
    assert "EMBED_DIM = 512" in message and f"{FOLDER}/config.json" in message
    assert convert(FOLDER, tmp_path / "run", *flags) == 2
    assert "already has a checkpoint of step 0: choose another" in capsys.readouterr().err


def test_dry_run_prints_the_mapping_and_writes_nothing(tmp_path, capsys):
    run_dir = tmp_path / "run"
    for folder in (GOLDEN / "hf" / "v5" / "byt5", GOLDEN / "hf" / "v4" / "flan_t5"):
        assert convert(folder, run_dir, "--dry_run", "--json") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["macros"] == json.loads(json.dumps(dict(read_config(folder).macros)))
        params = read_params(folder, read_config(folder).student)
        flat = {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
        }
        assert {each["parameter"]: tuple(each["shape"]) for each in result["mapping"]} == flat
        assert result["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert not run_dir.exists()
    assert cli.main(["convert", "--from=hf", f"--checkpoint={folder}", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "decoder/layers_1/encoder_decoder_attention/out/kernel (transposed)" in out
    assert "BF16" in out and "model-00002-of-00002.safetensors" in out
    assert "gin/models/t5_1_1.gin" in out and "TIE_EMBEDDINGS = False" in out


def test_dry_run_lists_what_is_not_read(tmp_path, capsys):
    from distill.huggingface.write import write_params

    folder = GOLDEN / "hf" / "v5" / "shared_not_scaled"
    student = read_config(folder).student
    shutil.copy(folder / "config.json", tmp_path)
    write_params(read_params(folder, student), student, tmp_path)  # with lm_head.weight, for 4.57
    assert cli.main(["convert", "--from=hf", f"--checkpoint={tmp_path}", "--dry_run"]) == 0
    assert "not read: lm_head.weight" in capsys.readouterr().out


def test_another_vocabulary_is_refused(tmp_path, capsys):
    assert convert(FOLDER, tmp_path / "run", "--gin.VOCABULARY=bytes") == 2
    assert "got VOCABULARY = 'bytes', but" in capsys.readouterr().err
    bare = tmp_path / "bare"
    shutil.copytree(GOLDEN / "hf" / "v5" / "t5", bare)
    assert convert(bare, tmp_path / "run") == 2
    assert "macro VOCABULARY must be set" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--from=hf"], "--from=hf needs --checkpoint, a folder with config.json and safetensors"),
        (["--from=hf", "--checkpoint=x"], "--from=hf needs --run_dir, the native run folder"),
        (["--from=hf", "--checkpoint=x", "--to=t5x"], "expected --to=native: convert to native"),
        (["--from=hf", "--checkpoint=x", "--run_dir=y", "--best"], "--best does not work with"),
        (["--from=hf", "--checkpoint=/no", "--dry_run"], "/no does not exist, expected a folder"),
        (["--from=t5x", "--checkpoint=x", "--dry_run"], "--dry_run does not work with --from=t5x"),
    ],
)
def test_bad_flags(flags, message, capsys):
    assert cli.main(["convert", *flags]) == 2
    assert message in capsys.readouterr().err


def test_messages_name_the_flag_that_was_given(tmp_path, capsys):
    assert convert(tmp_path / "none", tmp_path / "run") == 2
    assert f"{tmp_path / 'none'} does not exist, expected a folder" in capsys.readouterr().err
    flags = ("--gin_file=jsonl_pretrained", "--gin.EMBED_DIM=40")
    assert convert(FOLDER, tmp_path / "run", *flags) == 2
    said = capsys.readouterr().err
    assert f"the sizes of a run with --checkpoint={FOLDER} are those of the checkpoint" in said
    assert "INIT_FROM" not in said
    assert not (tmp_path / "run").exists()


def test_a_damaged_folder_leaves_no_checkpoint(tmp_path, capsys):
    folder = tmp_path / "hf"
    shutil.copytree(FOLDER, folder)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    nan = np.float32(np.nan).tobytes()
    path.write_bytes(content[: -len(nan)] + nan)
    assert convert(folder, tmp_path / "run") == 2
    assert "contains NaN" in capsys.readouterr().err
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    shutil.copy(FOLDER / "model.safetensors", path)
    assert convert(folder, tmp_path / "run") == 0
