"""The scripts of benchmarks/ still find what they import."""

import importlib.util
import pathlib
import runpy

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_and_has_a_main(script):
    if "t5x" in script.stem and importlib.util.find_spec("t5x") is None:
        pytest.skip("T5X cannot be imported here")
    names = runpy.run_path(str(script), run_name="imported")
    assert callable(names["main"])
    assert str(script.name) in names["__doc__"], "its docstring gives its command"
