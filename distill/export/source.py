"""What every export starts from and ends with: a run that is read, a folder that is written."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from etils import epath

from distill.common.atomic import absolute, atomic_directory, is_local
from distill.common.disk import disk_errors
from distill.errors import UserError
from distill.inference.load import LoadedRun, load_run
from distill.training import run_folder

CARD = "README.md"


def read_run(run_dir: epath.PathLike, best: bool = False) -> LoadedRun:
    """The run that is exported: the student that `distill predict` answers with.

    Args:
      run_dir: the run folder, of either engine.
      best: refuses a run that kept no best checkpoint.

    Raises:
      UserError: see `load.load_run`; `best` of a run that kept none.
    """
    config = run_folder.read_config(run_dir)
    if best:
        run_folder.check_kept_best(run_dir, config, "export")
    return load_run(run_dir)


def check_output(output: epath.PathLike) -> epath.Path:
    """The folder to write, which must not exist yet.

    Args:
      output: a local path.

    Returns:
      The path from the root.

    Raises:
      UserError: something has that name; a path in a bucket; its parent is a file.
    """
    if not is_local(output):
        raise UserError(
            f"got --output {os.fspath(output)!r}, expected a local folder: export to one, then "
            "copy it to the bucket"
        )
    folder = absolute(epath.Path(output).expanduser())
    if os.path.lexists(folder):
        raise UserError(f"{folder} already exists: choose another --output, or delete it")
    for parent in folder.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"{folder} cannot be made: {parent} is a file, expected a folder")
    return folder


@contextlib.contextmanager
def new_folder(folder: epath.Path, mark: str) -> Iterator[epath.Path]:
    """Gives a scratch folder that becomes `folder` when the block ends without an error.

    Args:
      folder: of `check_output`.
      mark: name of a file that every complete export of the kind has.

    Yields:
      The scratch folder.

    Raises:
      UserError: the disk is full, read only or not permitted; `folder` has appeared meanwhile.
    """
    with (
        disk_errors(folder, "free some space or choose another folder, then export again"),
        atomic_directory(folder, mark) as scratch,
    ):
        yield scratch
        for path in pathlib.Path(scratch).rglob("*"):
            if path.is_file():
                _sync(path)
        check_output(folder)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
