"""StableHLO: the script of docs/export.md answers as `distill predict`, without this package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax import export

from distill import cli
from distill.export.stablehlo import label_program, write_stablehlo
from distill.student.decoding import greedy

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "export.md"
# Runs a script where nothing but the standard library and the folder of jax can be imported, and
# fails if the script needed this package, or flax.
ISOLATED = """
import importlib.util, runpy, sys
sys.path.append({site!r})
sys.argv = {argv!r}
assert importlib.util.find_spec("distill") is None
sys.modules["flax"] = sys.modules["safetensors"] = None
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> pathlib.Path:
    (code,) = re.findall(r"^```python loader\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    path = tmp_path_factory.mktemp("script") / "answer.py"
    path.write_text(code)
    return path


def answer(script, folder, texts) -> list[str]:
    site = str(pathlib.Path(jax.__file__).parents[1])
    code = ISOLATED.format(site=site, argv=[str(script), str(folder)])
    command = [sys.executable, "-I", "-S", "-c", code]
    lines = "".join(f"{text}\n" for text in texts)
    environment = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    done = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n").split("\n")


def test_the_script_answers_without_this_package(run, texts, answers_of, script, tmp_path):
    """It cuts inputs as the student does, here at 24 tokens."""
    data = dataclasses.replace(run.config.data, input_length=24)
    short = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    expected = answers_of(short)
    assert len(set(expected)) > 12 and max(len(text.split()) for text in texts) > 40
    write_stablehlo(run, tmp_path / "out", input_length=24)
    assert answer(script, tmp_path / "out", texts) == expected


@pytest.mark.slow
def test_one_program_for_every_batch(run, random_params):
    """Also of stacked layers, of which the tree of parameters is another."""
    config = dataclasses.replace(run.config.student, scan_layers=True, num_decoder_layers=2)
    params = random_params(config, 2)
    names = traverse_util.flatten_dict(params, sep="/")
    program = export.deserialize(label_program(config, 12, 7).serialize())
    assert program.platforms == ("cpu", "cuda", "tpu")
    tokens = np.random.default_rng(0).integers(2, config.vocab_size, (3, 12), np.int32)
    tokens[0, 5:] = 0
    expected = np.asarray(greedy(params, config, tokens, 7))
    answer = jax.jit(program.call)
    np.testing.assert_array_equal(answer(names, tokens), expected)
    np.testing.assert_array_equal(answer(names, tokens[:1]), expected[:1])


def test_the_folder(run, tmp_path):
    """It names its files with their digests, and nothing of the machine."""
    out = tmp_path / "out"
    names = write_stablehlo(run, out)
    described = json.loads((out / "export.json").read_text())
    assert names == sorted([*described["files"], "export.json", "README.md"])
    for name, file in described["files"].items():
        content = (out / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert file["sha256"] in (out / "README.md").read_text()
        assert str(run.folder.parent).encode() not in content
    assert b".py" not in (out / "program.jax_export").read_bytes()
    header = (out / "parameters.safetensors").read_bytes()[8:]
    assert header.startswith(b'{"decoder/')
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


def test_the_command(run_dir, tmp_path, capsys):
    argv = ["export", "--to=stablehlo", f"--run_dir={run_dir}", f"--output={tmp_path}/a/b"]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a/b: step 12\n"
    before = {path: path.read_bytes() for path in (tmp_path / "a/b").glob("*.*")}
    assert cli.main(argv) == 2
    assert "already exists: choose another --output" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (tmp_path / "a/b").glob("*.*")}


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    from distill.errors import UserError
    from distill.export import stablehlo

    def full(*arguments):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(stablehlo, "_write_parameters", full)
    with pytest.raises(UserError, match=r"No space left on device; free some space.*export again"):
        write_stablehlo(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())
