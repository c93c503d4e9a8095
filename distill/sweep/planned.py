"""The runs that the sweep files of a results folder declare, as `distill report` counts them."""

from __future__ import annotations

from etils import epath

from distill.errors import UserError
from distill.report.groups import Planned
from distill.results import store
from distill.sweep.file import read_sweep
from distill.sweep.folder import COPIES, COPY
from distill.sweep.plan import make_plan


def title_of(place: epath.PathLike) -> str | None:
    """The title of the sweep in a results folder; None without one, or of several sweeps.

    Args:
      place: the folder, or its file of records.
    """
    paths = _sweep_files(place)
    if len(paths) != 1:
        return None
    try:
        sweep = read_sweep(paths[0])
    except UserError:
        return None  # `planned_runs` says why
    return sweep.title if sweep.title != sweep.name else None


def planned_runs(place: epath.PathLike) -> tuple[list[Planned] | None, str]:
    """The runs of the sweep files in a results folder.

    Args:
      place: the folder, or its file of records.

    Returns:
      The runs; or None, and why they are not known.
    """
    paths = _sweep_files(place)
    if not paths:
        return None, "the folder has no sweep file"
    planned = []
    try:
        for path in paths:
            sweep = read_sweep(path)
            planned += [Planned(r.id, sweep.name, r.axes, r.seed) for r in make_plan(sweep)]
    except UserError as error:
        return None, str(error)
    return planned, ""


def _sweep_files(place: epath.PathLike) -> list[epath.Path]:
    """The copies of sweep files in a results folder, the first sweep's first."""
    folder = store.records_path(place).parent
    paths = [each for each in (folder / COPY,) if each.exists()]
    if (folder / COPIES).is_dir():
        paths += sorted((folder / COPIES).glob("*.toml"))
    return paths
