"""Folders of data files, as Hugging Face's `datasets` saves them: which files hold a split."""

from __future__ import annotations

import re
from collections.abc import Iterable

from etils import epath

from distill.common.text_files import first_names, read_json
from distill.errors import UserError

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_SUFFIXES = (".parquet", ".arrow")
# train-00000-of-00002.parquet, train.parquet, corpus-train.arrow
_SHARD = re.compile(r"(?:.*[-_])?([A-Za-z]\w*?)(?:-\d+-of-\d+)?(?:-[0-9a-f]{8,})?")
_ALIASES = {
    "validation": ("validation", "valid", "val", "dev"),
    "train": ("train", "training"),
    "test": ("test", "eval", "evaluation"),
}


def data_files(folder: epath.Path, split: str) -> list[epath.Path]:
    """The files that hold a split, in their order.

    A folder holds one dataset that was saved (`save_to_disk`), one folder for each split, or files
    that are named by their split (`data/train-00000-of-00002.parquet`).

    Args:
      folder: the folder, local or on gs://.
      split: the split that is wanted; a folder of one dataset without splits is taken as it is.

    Raises:
      UserError: no such files; the splits that there are.
    """
    if (folder / _SPLITS).exists():
        splits = read_json(folder / _SPLITS).get("splits")
        names = [str(name) for name in splits] if isinstance(splits, list) else []
        return data_files(folder / _one(folder, names, split), split)
    if (folder / _STATE).exists():
        listed = read_json(folder / _STATE).get("_data_files")
        try:
            return [folder / entry["filename"] for entry in listed]  # type: ignore[union-attr]
        except (TypeError, KeyError):
            raise UserError(f"{folder / _STATE} does not list the data files") from None
    files = [
        place / name
        for place in (folder, folder / "data")
        if place.is_dir()
        for name in sorted(first_names(place))
        if name.endswith(_SUFFIXES) and not name.startswith(("cache-", ".", "_"))
    ]
    if not files:
        raise UserError(
            f"{folder} is a folder, expected a file, or a folder with {_STATE}, {_SPLITS} or files "
            f"named like train.parquet, {split}-00000-of-00001.parquet"
        )
    by_split: dict[str, list[epath.Path]] = {}
    for file in files:
        match = _SHARD.fullmatch(file.stem)
        by_split.setdefault(match[1] if match else file.stem, []).append(file)
    return by_split[_one(folder, by_split, split)]


def _one(folder: epath.Path, names: Iterable[str], split: str) -> str:
    names = list(names)
    for name in (split, *_ALIASES.get(split, ())):
        if name in names:
            return name
    raise UserError(
        f"{folder} has no split {split!r}, only {', '.join(names) or 'none'}; give the path of the "
        "folder or file of the split that you mean"
    )
