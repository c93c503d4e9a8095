"""One resolver for gin files: checkout, editable install and installed wheel.

A gin file is named `gin/experiments/NAME.gin` everywhere: on the command line,
in `include` statements and in T5X's --gin_file. The name is tried from the
working directory first, then from the folder that holds the project's `gin/`:
the checkout (also of an editable install), or this package, in which a wheel
carries the same files.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from etils import epath

from distill.errors import UserError, alike

_PACKAGE = Path(__file__).resolve().parent.parent


def gin_root() -> Path:
    """The folder that contains the project's `gin/` folder."""
    checkout = _PACKAGE.parent
    if (checkout / "setup.py").is_file() and (checkout / "gin" / "engines").is_dir():
        return checkout
    if (_PACKAGE / "gin" / "engines").is_dir():
        return _PACKAGE
    raise UserError(
        f"no gin/ folder beside or inside {_PACKAGE}: the installation is incomplete; reinstall "
        "the project with pip"
    )


def list_gin_files(layer: str = "") -> list[str]:
    """Names of all project gin files (`gin/...`), or of those of one layer."""
    root = gin_root()
    return sorted(
        path.relative_to(root).as_posix() for path in (root / "gin" / layer).rglob("*.gin")
    )


def resolve_path(name: str, where: str = "--gin_file") -> str:
    """The path of a gin file, given as a path or as a project name.

    Args:
      name: a path (local or gs://) or a project name; `gin/`, `experiments/` and
        `.gin` may be left out.
      where: what named the file, for the error.

    Raises:
      UserError: no such file; lists the closest project files.
    """
    suffixed = name if name.endswith(".gin") else name + ".gin"
    root = gin_root()
    experiments = root / "gin" / "experiments"
    for path in (name, suffixed, root / suffixed, root / "gin" / suffixed, experiments / suffixed):
        try:
            if epath.Path(path).is_file():
                return str(path)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"gin file {name[:200]!r} (from {where}): {reason}") from error
    in_project = suffixed if "/" in name else f"gin/experiments/{suffixed}"
    known = list_gin_files()
    like = difflib.get_close_matches(Path(name).stem, {Path(each).stem for each in known}, 2, 0.8)
    same = [each for stem in like for each in known if Path(each).stem == stem]
    near = dict.fromkeys([*_near_files(suffixed), *same, *alike(in_project, known)])
    hint = f"closest: {', '.join(near)}" if near else "no gin file has a similar name"
    if (epath.Path(name) / "config.gin").is_file():
        hint = f"it is a run folder, whose settings are in {name.rstrip('/')}/config.gin"
    elif inside := _folder_files(name):
        hint = f"it is a folder; give one of its files: {', '.join(inside)}"
    elif Path(name).is_dir():
        hint = "it is a folder without gin files"
    elif beside := _beside_including_file(name, where):
        hint = (
            f"includes are relative to the current folder: {beside} exists, so run the command in "
            f"{beside.parent}"
        )
    raise UserError(f"gin file {name!r} not found (from {where}); {hint}")


def _folder_files(name: str) -> list[str]:
    """The gin files of a local folder, if `name` is one."""
    try:
        return sorted(map(str, Path(name).glob("*.gin")))
    except OSError:
        return []


def _beside_including_file(name: str, where: str) -> Path | None:
    """The local file of this name in the folder of the including file (`where` is FILE:LINE)."""
    including, colon, line = where.rpartition(":")
    if not colon or not line.isdigit() or "://" in including:
        return None
    beside = Path(including).parent / name
    return beside if beside.is_file() else None


def _near_files(name: str) -> list[str]:
    """Gin files of the folder that `name` is in whose names are much like it."""
    path = Path(name)
    try:
        found = [each.name for each in path.parent.glob("*.gin")]
    except OSError:
        return []
    near = difflib.get_close_matches(path.name, found, n=2, cutoff=0.7)
    return [str(path.parent / each) for each in near]
