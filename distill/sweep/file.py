"""The file that declares a sweep: TOML, read into dataclasses that check it.

    name = "labels"
    title = "Accuracy by method and number of labels"
    gin_files = ["tickets_step_by_step"]
    seeds = [1, 2, 3]

    [macros]
    NUM_TEST = 1000

    [axes.labels]
    macro = "NUM_LABELS"
    values = [250, 500]

    [axes.method.settings]
    finetune = { gin_files = ["tickets_finetune"] }
    step_by_step = {}

    [[exclude]]
    labels = 250
    method = "finetune"

docs/sweeps.md describes every key.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from distill.common.text_files import check_file, read_text, read_toml
from distill.config import files
from distill.errors import UserError, hint
from distill.results.record import Value
from distill.sweep.axes import (
    TOP_KEYS,
    Axis,
    check_keys,
    checked,
    is_line,
    is_same,
    read_axes,
    read_gin_files,
    read_macros,
)

_KEYS = (*TOP_KEYS, "macros", "axes", "exclude")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_NAME_EXPECTED = "at most 60 letters, digits, points, hyphens and underscores, as of a file"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file that has passed its checks; gin files and macros are checked by the plan.

    Attributes:
      path: of the file.
      text: its content.
      name: names its copy in the results folder, and its records.
      title: heading of tables and reports.
      gin_files: of all runs, in order.
      macros: of all runs; they override the gin files.
      seeds: values of SEED; each combination is run with each of them.
      axes: in the order of the file.
      zips: groups of axes whose values go together, first with first and so on.
      exclude: combinations that are left out: the values by axis, or by "seed".
    """

    path: str
    text: str
    name: str
    title: str
    gin_files: tuple[str, ...]
    macros: Mapping[str, object]
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    zips: tuple[tuple[str, ...], ...]
    exclude: tuple[Mapping[str, tuple[Value, ...]], ...]

    def axis(self, name: str) -> Axis:
        """The axis of a name that is known to be there."""
        return next(axis for axis in self.axes if axis.name == name)


def find_sweep(name: str) -> epath.Path:
    """The path of a sweep file, given as a path, or as a name in the project's gin/sweeps.

    Args:
      name: of the file; for those of the project, `gin/sweeps/` and `.toml` may be left out.

    Raises:
      UserError: there is no such file; lists those of the project.
    """
    root = epath.Path(files.gin_root())
    for path in (epath.Path(name), root / name, root / "gin" / "sweeps" / f"{name}.toml"):
        if path.is_file():
            return path
    names = sorted(path.name.removesuffix(".toml") for path in (root / "gin/sweeps").glob("*.toml"))
    check_file(epath.Path(name), f"Sweeps of the project: {', '.join(names)}")
    return epath.Path(name)


def read_sweep(path: epath.PathLike) -> Sweep:
    """Reads a sweep file.

    Args:
      path: as of `find_sweep`.

    Raises:
      UserError: a missing file; text that is not TOML, with the line; a key that is unknown,
        missing or has a value of another kind, by table and key.
    """
    found = find_sweep(os.fspath(path))
    text = read_text(found)
    where = str(path) if epath.Path(path).is_file() else str(found)
    content = read_toml(text, where)
    check_keys(content, where, _KEYS)
    stem = found.name.removesuffix(".toml")
    name = content.get("name", stem)
    is_name = isinstance(name, str) and bool(_NAME.fullmatch(name))
    checked(name, f"{where}: name", is_name, _NAME_EXPECTED)
    title = content.get("title", name)
    axes = read_axes(content.get("axes", {}), f"{where}: [axes]")
    sweep = Sweep(
        path=where,
        text=text,
        name=name,
        title=checked(title, f"{where}: title", is_line(title), "a line of text"),
        gin_files=read_gin_files(content, where),
        macros=read_macros(content.get("macros", {}), f"{where}: [macros]"),
        seeds=_seeds(content.get("seeds", [0]), f"{where}: seeds"),
        axes=axes,
        zips=_zips(content.get("zip", []), axes, f"{where}: zip"),
        exclude=(),
    )
    _check_one_setter(sweep)
    if not sweep.gin_files and not any(c.gin_files for axis in axes for c in axis.choices):
        raise UserError(
            f"{where}: gin_files is missing: expected at least one gin file, e.g. gin_files = "
            '["tickets_step_by_step"]'
        )
    return dataclasses.replace(sweep, exclude=_exclude(content.get("exclude", []), sweep))


def _seeds(value: Any, where: str) -> tuple[int, ...]:
    expected = "a list of different integers >= 0, e.g. [1, 2, 3]"
    sound = isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
    return tuple(checked(value, where, sound and 0 < len(set(value)) == len(value), expected))


def _zips(value: Any, axes: Sequence[Axis], where: str) -> tuple[tuple[str, ...], ...]:
    expected = 'a list of lists of axes, e.g. [["labels", "steps"]]'
    sound = isinstance(value, list) and all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(n, str) for n in group)
        for group in value
    )
    checked(value, where, sound, f"{expected}, each of at least 2")
    known = {axis.name: axis for axis in axes}
    names = [name for group in value for name in group]
    for name in names:
        if name not in known:
            raise UserError(f"{where}: unknown axis {name!r}; {hint(name, known)}")
        if names.count(name) > 1:
            raise UserError(f"{where}: axis {name!r} occurs twice, expected once")
    for group in value:
        counts = {name: len(known[name].choices) for name in group}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise UserError(f"{where}: {told} values, expected equal numbers")
    return tuple(map(tuple, value))


def _check_one_setter(sweep: Sweep) -> None:
    """Refuses a macro that two axes set, of which one would silently win."""
    setters: dict[str, str] = {}
    for axis in sweep.axes:
        for name in dict.fromkeys(name for choice in axis.choices for name in choice.macros):
            if name in setters:
                raise UserError(
                    f"{sweep.path}: [axes.{axis.name}] sets {name}, and so does "
                    f"[axes.{setters[name]}]; expected one axis to set it"
                )
            setters[name] = axis.name


def _exclude(value: Any, sweep: Sweep) -> tuple[Mapping[str, tuple[Value, ...]], ...]:
    where = f"{sweep.path}: [[exclude]]"
    is_list = isinstance(value, list) and all(isinstance(each, dict) and each for each in value)
    checked(value, where, is_list, "tables of values by axis, e.g. labels = [250, 500]")
    rules = []
    for number, table in enumerate(value, start=1):
        place = f"{where} number {number}"
        rule = {}
        for name, given in table.items():
            known = [*(axis.name for axis in sweep.axes), "seed"]
            if name not in known:
                raise UserError(f"{place}: unknown axis {name!r}; {hint(name, known)}")
            values = given if isinstance(given, list) else [given]
            valid = _values(sweep, name)
            checked(given, f"{place} {name}", bool(values), "a value of the axis, or several")
            for each in values:
                _check_value(each, valid, f"{place} {name}")
            rule[name] = tuple(values)
        rules.append(rule)
    return tuple(rules)


def _values(sweep: Sweep, name: str) -> tuple[Value, ...]:
    if name == "seed":
        return sweep.seeds
    return tuple(choice.value for choice in sweep.axis(name).choices)


def _check_value(value: Any, valid: Sequence[Value], where: str) -> None:
    if not any(is_same(value, each) for each in valid):
        shown = [str(each) for each in valid]
        raise UserError(
            f"{where}: got {value!r}, which is no value of the axis; {hint(str(value), shown)}"
        )
