"""What is in the place of a results folder that has no records: which folder to give instead."""

from __future__ import annotations

import os
from pathlib import Path

from etils import epath

from distill.common.phrases import number_of
from distill.common.text_files import LOOKED_AT, first_names
from distill.errors import UserError
from distill.training.run_folder import CONFIG, RESULTS, RUN

_EXPECTED = "expected the folder that `distill sweep --out` wrote"
_MOST_SHOWN = 5  # names of folders
_ABOVE = 3  # folders above a folder that may be the results folder: <out>/runs/<run id>/checkpoints


def check_is_no_other(folder: Path, records: str) -> None:
    """Refuses folders of runs, and folders that hold results folders or folders of runs.

    Args:
      folder: a folder without records.
      records: the name of a file of records.

    Raises:
      UserError: it is one of these; names the folders to give instead.
    """
    above = _shown(next((f for f in _parents(folder) if os.path.isfile(f / records)), None), folder)
    if _is_run(folder):
        result = f"; the result of this run is in {folder / RESULTS}"
        instead = above or (result if os.path.isfile(folder / RESULTS) else "")
        raise UserError(f"{folder} is the folder of one run, {_EXPECTED}{instead}")
    try:
        children = [folder / name for name in sorted(first_names(epath.Path(folder)))]
    except OSError:  # no permission
        return
    if found := [str(child) for child in children if os.path.isfile(child / records)]:
        raise UserError(f"{folder} has no {records}; folders in it that have one: {_listed(found)}")
    if runs := [child for child in children if _is_run(child)]:
        count = number_of(len(runs), "run") + (" or more" if len(children) >= LOOKED_AT else "")
        raise UserError(f"{folder} has the folders of {count} and no {records}, {_EXPECTED}{above}")


def _is_run(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name in (CONFIG, RUN))


def _parents(folder: Path) -> list[Path]:
    return list(Path(os.path.abspath(folder)).parents[:_ABOVE])


def _shown(above: Path | None, folder: Path) -> str:
    """The end of a message that names a folder above, relative if `folder` is."""
    if above is None:
        return ""
    return f": {above if folder.is_absolute() else os.path.relpath(above)}"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
