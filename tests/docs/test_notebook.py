"""The notebook was executed from top to bottom, shows no machine, and runs from a clean state."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest
from shell_blocks import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOK = FOLDER / "step_by_step.ipynb"
_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|usr|var|opt|mnt|work|Users|private)\b|[A-Z]:\\\\")
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


def _code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _accuracies(cells):
    """Test accuracy by method, as the cell that trains prints it."""
    text = "".join("".join(output["text"]) for cell in _code(cells) for output in cell["outputs"])
    return {name: float(value) for name, value in re.findall(r"(\w+) +accuracy ([\d.]+)", text)}


def test_its_cells_compile_and_were_executed_in_order(cells):
    for cell in _code(cells):
        compile("".join(cell["source"]), NOTEBOOK.name, "exec")
    counts = [cell["execution_count"] for cell in _code(cells)]
    assert counts == list(range(1, len(counts) + 1)), "run python notebooks/execute.py"


def test_its_outputs_are_those_of_code_that_did_not_fail(cells):
    outputs = [output for cell in _code(cells) for output in cell["outputs"]]
    assert len(outputs) >= 8
    assert {(each["output_type"], each.get("name")) for each in outputs} == {("stream", "stdout")}
    accuracies = _accuracies(cells)
    assert accuracies["step_by_step"] > accuracies["finetune"] + 0.2


def test_it_shows_no_path_of_the_machine():
    assert not (found := _PATH.search(NOTEBOOK.read_text())), found


def test_its_links_lead_to_files(cells):
    links = _LINK.findall("".join("".join(cell["source"]) for cell in cells))
    assert links
    for link in links:
        assert (FOLDER / link).exists(), link


@pytest.mark.slow
def test_it_runs_from_a_clean_state(cells):
    reason = "needs ipykernel and nbclient: pip install ipykernel nbclient"
    pytest.importorskip("ipykernel", reason=reason)
    pytest.importorskip("nbclient", reason=reason)
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    executed = json.loads(json.dumps(module.execute(NOTEBOOK)))["cells"]
    assert [len(cell["outputs"]) for cell in _code(executed)] == [
        len(cell["outputs"]) for cell in _code(cells)
    ]
    accuracies = _accuracies(executed)
    assert accuracies == pytest.approx(_accuracies(cells), abs=0.03)
