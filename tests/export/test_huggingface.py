"""Hugging Face folders, without torch and transformers: what is in them; see also test_live_*."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from distill import cli
from distill.convert import folders
from distill.data.vocabularies import WordVocabulary
from distill.errors import UserError
from distill.export import piece_model
from distill.export.huggingface import write_huggingface
from distill.export.tokenizer_files import write_tokenizer
from distill.huggingface.config_json import read_config
from distill.huggingface.read import read_params
from distill.inference.load import load_run

FAMILY_NAMES = ["t5", "t5_1_1", "tied_unscaled", "byt5_depths"]


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", FAMILY_NAMES)
@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 20_000])
def test_the_parameters_come_back(family, name, shard_bytes, tmp_path):
    run = family(name)
    names = write_huggingface(run, tmp_path / "out", shard_bytes)
    assert sorted(content(tmp_path / "out")) == names
    assert ("model.safetensors" in names) == (shard_bytes > 10**6)
    student = run.config.student
    macros = read_config(tmp_path / "out").macros
    assert macros["NUM_ENCODER_LAYERS"] == student.num_encoder_layers
    assert macros["MLP_ACTIVATIONS"] == student.mlp_activations
    back = read_params(tmp_path / "out", student)
    jax.tree.map(np.testing.assert_array_equal, run.params, back)


def test_an_export_with_whole_words_converts_back(run_dir, micro, tmp_path, capsys):
    out, back = tmp_path / "out", tmp_path / "back"
    assert cli.main(["export", "--to=hf", f"--run_dir={run_dir}", f"--output={out}"]) == 0
    flags = [f"--gin.{text}" for text in micro]
    argv = ["convert", "--from=hf", f"--checkpoint={out}", "--gin_file=tickets_step_by_step"]
    assert cli.main([*argv, f"--run_dir={back}", *flags]) == 0
    trained, converted = load_run(run_dir).params, load_run(back).params
    jax.tree.map(np.testing.assert_array_equal, trained, converted)
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["lamps"] = words.pop("lamp")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert cli.main([*argv, f"--run_dir={tmp_path}/other", *flags]) == 2
    assert "tokenizer.json has other words than the rows of this run" in capsys.readouterr().err


def test_the_command_exports_what_predict_answers_with(run_dir, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["export", "--to=hf", f"--run_dir={run_dir}", f"--output={out}"]
    assert cli.main([*argv, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"written": str(out), "step": 12, "files": sorted(content(out))}
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 32 and generation["use_cache"]
    before = content(out)
    for flags in ([], ["--best"]):
        assert cli.main([*argv, *flags]) == 2
        assert "already exists: choose another --output" in capsys.readouterr().err
    assert content(out) == before


def test_both_engines_give_the_same_folder(run_dir, tmp_path):
    """A run of the t5x engine has the same parameters in T5X's files."""
    theirs = tmp_path / "t5x_run"
    shutil.copytree(run_dir, theirs, ignore=shutil.ignore_patterns("checkpoints"))
    folders.native_to_t5x(run_dir, theirs / "t5x")
    for name, folder in (("ours", run_dir), ("theirs", theirs)):
        argv = ["export", "--to=hf", f"--run_dir={folder}", f"--output={tmp_path / name}"]
        assert cli.main(argv) == 0
    assert content(tmp_path / "ours") == content(tmp_path / "theirs")


def test_the_card(run_dir, tmp_path, capsys):
    """It holds the prefix, the labels, the score with its interval, and digests; no paths."""
    argv = ["export", "--to=hf", f"--run_dir={run_dir}", f"--output={tmp_path}/out"]
    assert cli.main(argv) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    results = json.loads((run_dir / "results.json").read_text())
    low, high = results["interval"]
    for text in (
        "texts = ['[label] ' + text",
        "`replace`, `repair`, `refund`, `refuse`",
        f"{results['accuracy']:.3f} on 24 test rows",
        f"[{low:.3f}, {high:.3f}]",
        "License of its rows: Apache-2.0.",
        "license: apache-2.0",
        "Inputs were cut at 64 tokens",
    ):
        assert text in card
    assert str(run_dir) not in card and str(tmp_path) not in card


def test_the_card_does_not_claim_another_checkpoints_score(run, tmp_path):
    write_huggingface(dataclasses.replace(run, step=8), tmp_path / "out")
    assert "Not measured for this checkpoint (step 8)" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("content", ['{"accuracy": "high"}', "[]", '{"accuracy": 1, "n_test": {}}'])
def test_a_damaged_score_is_named(run, content, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.gin", "run.json"):
        shutil.copy(run.folder / name, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text(content)
    moved = dataclasses.replace(run, folder=epath.Path(tmp_path / "run"))
    with pytest.raises(UserError, match=r"results\.json"):
        write_huggingface(moved, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_texts_of_the_run_are_quoted_in_the_card(run, tmp_path):
    hostile = "a`b``c | d\n# title"
    assets = dataclasses.replace(run.assets, labels=(hostile, "plain"))
    write_huggingface(dataclasses.replace(run, assets=assets), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert r"``` a`b``c | d\n# title ```" in card and "\n# title" not in card


def test_the_card_says_that_decoding_stops_after_the_label(run, tmp_path):
    data = dataclasses.replace(run.config.data, method="answer_first")
    config = dataclasses.replace(run.config, data=data)
    write_huggingface(dataclasses.replace(run, config=config), tmp_path / "out")
    card = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert "trained to write the label, and after it a language model's rationale" in card
    assert "Decoding stops at the end-of-sequence token after the label." in card
    assert "[rationale]" not in card


def test_a_decoder_deeper_than_the_encoder_decodes_without_cache(family, tmp_path):
    write_huggingface(family("deep_decoder"), tmp_path / "out")
    assert not json.loads((tmp_path / "out/generation_config.json").read_text())["use_cache"]


def test_activations_that_transformers_lacks(run, tmp_path):
    student = dataclasses.replace(run.config.student, mlp_activations=("gelu", "relu"))
    config = dataclasses.replace(run.config, student=student)
    with pytest.raises(UserError, match="MLP_ACTIVATIONS"):
        write_huggingface(dataclasses.replace(run, config=config), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_word_that_is_the_name_of_a_special_token(tmp_path):
    with pytest.raises(UserError, match=r"has the word '</s>', which is the name of a special"):
        write_tokenizer(tmp_path, WordVocabulary(["a", "</s>"]), 8, b"", 64)


def test_the_model_of_pieces_loses_its_sentinels_only(with_vocabulary, tmp_path):
    run = with_vocabulary("sentencepiece")
    write_huggingface(run, tmp_path / "out")
    model, short = run.assets.content(), (tmp_path / "out" / "spiece.model").read_bytes()
    assert model.startswith(short) and model.count(b"extra_id") == 4
    assert b"extra_id" not in short
    tokenizer = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    vocabulary = run.assets.vocabulary()
    names = [name for name, _ in tokenizer["model"]["vocab"]]
    assert names[:-4] == [vocabulary.processor.IdToPiece(i) for i in range(len(names) - 4)]
    assert names[-4:] == [f"<extra_id_{index}>" for index in (3, 2, 1, 0)]
    characters = base64.b64decode(tokenizer["normalizer"]["precompiled_charsmap"])
    assert len(characters) > 1000 and characters in model


@pytest.mark.parametrize("damaged", [b"\x0a\x05ab", b"\x0a", b"\x0b\x00", b"\xff" * 12])
def test_bytes_that_are_no_model(damaged):
    with pytest.raises(ValueError, match="no protocol buffer"):
        piece_model.with_first_pieces(damaged, 9)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to=hf", "--quantization=int8"], "--quantization works only with --to=ctranslate2"),
        (["--to=hf", "--input=x.jsonl"], "--input works only with --to=ctranslate2, got --to=hf"),
        (["--to=hf", "--input_length=9"], "--input_length works only with --to=stablehlo"),
        (["--to=stablehlo", "--input_length=1"], "got --input_length 1, expected 2 to 65,536"),
        (["--to=hf", "--best"], "so no best checkpoint was kept: omit --best to export the newest"),
        (["--to=hff"], "got --to 'hff', expected one of hf, ctranslate2, stablehlo"),
        (["--to=hf", "--output=gs://bucket/x"], "expected a local folder"),
        (["--to=hf", "--run_dir=nowhere"], "nowhere is not a run folder"),
    ],
)
def test_bad_input(flags, message, run_dir, tmp_path, capsys):
    argv = ["export", f"--run_dir={run_dir}", f"--output={tmp_path}/out", *flags]
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "link", "in a file", "the run folder"])
def test_outputs_that_are_refused(kind, run_dir, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    names = {"in a file": tmp_path / "file" / "out", "the run folder": run_dir}
    output = names.get(kind, tmp_path / kind)
    assert cli.main(["export", "--to=hf", f"--run_dir={run_dir}", f"--output={output}"]) == 2
    assert re_any(capsys.readouterr().err, "already exists", "is a file", "the same as --run_dir")
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "nowhere").exists()


def re_any(text: str, *messages: str) -> bool:
    return any(message in text for message in messages)


def test_missing_packages_are_named(run_dir, tmp_path, capsys, monkeypatch):
    from distill.export import ctranslate2

    monkeypatch.setattr(ctranslate2, "_PACKAGES", ("jax", "ctranslate2_", "torch_"))
    argv = ["export", "--to=ctranslate2", f"--run_dir={run_dir}", f"--output={tmp_path}/out"]
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs ctranslate2_ and torch_: pip install 'distill-step-by-step[ctranslate2]'" in line
    assert not list(tmp_path.iterdir())
