"""What INIT_FROM and CONTINUE_FROM name: which kind of checkpoint lies at a path, and where in it.

    hf    a Hugging Face folder: config.json and safetensors
    t5x   a T5X checkpoint: checkpoint_<step>, or a folder that holds some
    run   a run folder of the native engine: its newest, with CHECKPOINT = 'best' its best

A run folder of the t5x engine counts as the T5X checkpoints that it holds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from etils import epath

from distill.common.atomic import absolute, is_local
from distill.common.digests import sha256, sha256_text
from distill.convert import t5x_files
from distill.errors import UserError
from distill.training import run_folder
from distill.training.intact import DIGESTS
from distill.training.saved_checkpoints import FOLDER, SavedCheckpoints

KINDS = {"hf": "Hugging Face folder", "t5x": "T5X checkpoint", "run": "run folder"}
CONFIG_JSON = "config.json"
_T5X_DIR = "t5x"  # T5X's folder in a run folder of the t5x engine
_ID_PARTS = 2  # of a name on huggingface.co: owner/name


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint that a run starts from.

    Attributes:
      macro: INIT_FROM or CONTINUE_FROM.
      path: as the macro has it.
      kind: one of KINDS.
      folder: of the files that are read: the Hugging Face folder, one T5X checkpoint, or one
        checkpoint of a run folder.
      run_dir: the run folder that it belongs to; None if it is in none.
    """

    macro: str
    path: str
    kind: str
    folder: epath.Path
    run_dir: epath.Path | None = None

    def __str__(self) -> str:
        return f"{self.macro} = {self.path!r}, a {KINDS[self.kind]}"


def kind_of(path: epath.PathLike) -> str | None:
    """One of KINDS for what lies at a path, looking at names of files only; None for none."""
    folder = epath.Path(path)
    if (folder / run_folder.CONFIG).is_file():
        return "t5x" if (folder / _T5X_DIR).is_dir() else "run"
    if (folder / CONFIG_JSON).is_file():
        return "hf"
    if t5x_files.is_checkpoint(folder) or t5x_files.steps(folder):
        return "t5x"
    return None


def find_source(macro: str, path: str) -> Source:
    """The checkpoint at a path.

    Args:
      macro: INIT_FROM or CONTINUE_FROM, for messages.
      path: local or in a bucket.

    Raises:
      UserError: nothing there that is one of KINDS; a run folder without a checkpoint.
    """
    folder = absolute(os.path.expanduser(path))
    kind = kind_of(folder)
    if kind is None:
        raise _not_found(macro, path, folder)
    if kind == "run":
        return Source(macro, path, kind, _chosen(macro, path, folder), folder)
    if kind == "t5x":
        is_run = (folder / run_folder.CONFIG).is_file()
        if is_run and run_folder.read_config(folder).train.checkpoint == "best":
            raise UserError(
                f"got {macro} = {path!r}, a run of the t5x engine with CHECKPOINT = 'best', "
                f"expected one of its checkpoints: {folder / _T5X_DIR}/checkpoint_<step>"
            )
        at = folder / _T5X_DIR if is_run else folder
        return Source(macro, path, kind, t5x_files.find_checkpoint(at), folder if is_run else None)
    return Source(macro, path, kind, folder)


def _chosen(macro: str, path: str, folder: epath.Path) -> epath.Path:
    """The checkpoint of a native run folder that answers; to continue, the newest."""
    saved = SavedCheckpoints(folder)
    is_best = macro == "INIT_FROM" and run_folder.read_config(folder).train.checkpoint == "best"
    step = saved.best_step if is_best else None
    step = saved.latest_step if step is None else step
    if step is None:
        raise UserError(
            f"got {macro} = {path!r}, a run folder without a checkpoint, expected one that has "
            "been trained"
        )
    return folder / FOLDER / str(step)


def _not_found(macro: str, path: str, folder: epath.Path) -> UserError:
    got = f"got {macro} = {path!r}"
    expected = (
        f"expected a Hugging Face folder ({CONFIG_JSON} and *.safetensors), a T5X checkpoint "
        "(checkpoint_<step>) or a run folder (config.gin)"
    )
    if folder.is_dir():
        for parent in (folder.parent, folder.parent.parent):
            if (parent / run_folder.CONFIG).is_file():
                return UserError(f"{got}, which is inside a run folder: give {parent}")
        weights = sorted(each.name for each in folder.glob("*.safetensors"))
        if weights:
            return UserError(
                f"{got}, which has {weights[0]} but no {CONFIG_JSON}: copy the whole folder"
            )
        return UserError(f"{got}, a folder that contains no checkpoint; {expected}")
    if folder.exists():
        return UserError(f"{got}, which is a file; {expected}: give its folder")
    is_id = len(path.split("/")) == _ID_PARTS and not path.startswith((".", "/", "~"))
    name = path if is_id else "OWNER/NAME"
    return UserError(
        f"{got}, which does not exist; {expected}. distill downloads no checkpoints: for one of "
        f"huggingface.co, run `hf download {name} --local-dir FOLDER` and give FOLDER"
    )


def digest(source: Source) -> str:
    """Hex digest of a checkpoint's files: their names, sizes and, of local files, contents."""
    sealed = source.folder / DIGESTS
    if sealed.is_file():  # it has the digests of the other files, which are compared on reading
        return sha256(sealed)
    texts = []
    for path in sorted(_files(source), key=str):
        name = os.fspath(path).removeprefix(f"{os.fspath(source.folder)}/")
        texts.append(f"{name}:{path.stat().length}")
        if is_local(path):
            texts.append(sha256(path))
    return sha256_text(*texts)


def _files(source: Source) -> list[epath.Path]:
    """The files that parameters and sizes are read from."""
    if source.kind == "hf":
        names = ("*.safetensors", "*.safetensors.index.json", CONFIG_JSON)
        return [path for name in names for path in source.folder.glob(name)]
    return list(_below(source.folder))


def _below(folder: epath.Path) -> Iterator[epath.Path]:
    """All files below a folder; epath has no recursive `glob`."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from _below(path)
        else:
            yield path
