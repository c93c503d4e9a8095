"""Executes the notebooks of this folder from a clean state and keeps their outputs.

    pip install nbclient ipykernel
    python notebooks/execute.py

Times of cells and lines of progress on stderr are left out: they differ from machine to machine.
"""

from __future__ import annotations

import pathlib

import nbformat
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).resolve().parent
TIMEOUT = 900  # seconds for a cell


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of its code.

    Args:
      path: of the notebook, which is not written.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=TIMEOUT, record_timing=False, coalesce_streams=True).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)  # the version of the interpreter
    return notebook


if __name__ == "__main__":
    for found in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(execute(found), found)
        print(found.name)
