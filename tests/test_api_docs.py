"""The code of docs/api.md runs as it is printed, in a script and in a notebook."""

from __future__ import annotations

import inspect
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import distill

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "api.md"
SETTINGS = '{"TRAIN_STEPS": 1000}'  # of the block; a micro student's take their place


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text()


@pytest.fixture(scope="module")
def block(page, micro):
    """The block to paste, with the settings of a micro student."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert code.count(SETTINGS) == 1 and code.count("\n") <= 12
    return code.replace(SETTINGS, repr(list(micro)))


def test_the_block_runs_as_a_script(block, run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "runs" / "tickets")  # its results are read
    (tmp_path / "script.py").write_text(block)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    labels = distill.load(run_dir).labels
    assert len(lines) == 4 and all(f"'{label}': 0." in lines[1] for label in labels)


@pytest.mark.slow
def test_the_block_runs_in_a_notebook(block, tmp_path):
    """A kernel runs cells within an event loop, which Orbax has to cope with."""
    reason = "needs ipykernel and nbclient: pip install ipykernel nbclient"
    pytest.importorskip("ipykernel", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)

    cells = [nbformat.v4.new_code_cell(part) for part in block.strip().split("\n\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=600, resources=resources)
    client.execute()
    texts = [
        output["text"]
        for cell in notebook.cells
        for output in cell.outputs
        if output.get("name") == "stdout"
    ]
    assert len("".join(texts).splitlines()) == 4
    assert (tmp_path / "runs" / "tickets" / "results.json").exists()


@pytest.mark.parametrize("name", ["train", "load", "evaluate", "Student.predict", "Student.export"])
def test_every_parameter_is_documented(page, name):
    function = distill
    for part in name.split("."):
        function = getattr(function, part)
    call = name.replace("Student", "student") if "." in name else f"distill.{name}"
    (text,) = re.findall(rf"^{re.escape(call)}\((.*?)^\) ->", page, re.MULTILINE | re.DOTALL)
    signature = inspect.signature(function)
    documented = re.findall(r"(\w+): ", text)
    assert documented == [parameter for parameter in signature.parameters if parameter != "self"]
    for parameter in signature.parameters.values():
        if parameter.name != "self" and parameter.default is not inspect.Parameter.empty:
            default = re.escape(repr(parameter.default))
            assert re.search(rf"\b{parameter.name}: [^=]*= {default}", text), parameter


@pytest.mark.parametrize("name", ["TrainResult", "Prediction", "Evaluation"])
def test_every_field_is_documented(page, name):
    section = page[page.index(f"| field of `{name}` |") :].partition("\n\n")[0]
    for field in inspect.signature(getattr(distill, name)).parameters:
        assert f"`{field}`" in section
