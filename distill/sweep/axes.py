"""The axes of a sweep file, and the checks of values that all of its tables share."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from distill.errors import UserError, hint
from distill.results.record import FIELDS, Value

# Fields of a record that an axis may be called after: both say what the run is.
_SHARED = frozenset({"method", "dataset", "labels", "train_rows", "label_weight"})
_RESERVED = frozenset(FIELDS) - _SHARED - {"steps", "batch_size"}
TOP_KEYS = ("name", "title", "gin_files", "seeds", "zip")  # of the file, before its tables
_MACRO = re.compile(r"[A-Z][A-Z0-9_]*")
_LONGEST = 60  # characters of the name of an axis, or of one of its values


@dataclasses.dataclass(frozen=True)
class Choice:
    """One value of an axis.

    Attributes:
      value: as tables show it.
      gin_files: read after those of the sweep.
      macros: values that override all gin files.
    """

    value: Value
    gin_files: tuple[str, ...] = ()
    macros: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Axis:
    """What is varied: a name, and the values in the order of the file."""

    name: str
    choices: tuple[Choice, ...]


def read_axes(table: Any, where: str) -> tuple[Axis, ...]:
    """The axes of the table [axes].

    Args:
      table: as the file has it.
      where: file and table, for errors.

    Raises:
      UserError: an axis whose name or values are not sound, by table and key.
    """
    checked(table, where, isinstance(table, dict), "a table of axes, e.g. [axes.labels]")
    axes = []
    for name, content in table.items():
        place = f"{where[:-1]}.{name}]"
        if not is_line(name) or len(name) > _LONGEST:
            raise UserError(
                f"{place}: got an axis named {name!r}, expected up to {_LONGEST} characters"
            )
        if name in _RESERVED:
            raise UserError(
                f"{place}: the name {name!r} is that of a field of the results, expected another "
                f"name, e.g. {name}_axis"
            )
        expected = "a table with macro and values, or with settings"
        checked(content, place, isinstance(content, dict), expected)
        axes.append(Axis(name, _choices(content, place)))
    return tuple(axes)


def _choices(table: Mapping[str, Any], where: str) -> tuple[Choice, ...]:
    """The values of an axis, of either kind."""
    check_keys(table, where, ("macro", "values", "settings"))
    if "settings" in table:
        if len(table) > 1:
            others = ", ".join(sorted(set(table) - {"settings"}))
            raise UserError(
                f"{where}: got settings together with {others}, expected either macro and values, "
                "or settings"
            )
        return _settings(table["settings"], f"{where[:-1]}.settings]")
    for key in ("macro", "values"):
        if key not in table:
            raise UserError(
                f"{where}: {key} is missing: expected macro and values, e.g. macro = "
                '"NUM_LABELS" and values = [250, 500]; or settings, a table of gin files and macros'
            )
    macro = checked(
        table["macro"],
        f"{where} macro",
        isinstance(table["macro"], str) and bool(_MACRO.fullmatch(table["macro"])),
        "the name of a macro in capitals, e.g. NUM_LABELS",
    )
    _check_not_seed(macro, where)
    values = table["values"]
    is_list = isinstance(values, list) and bool(values)
    checked(values, f"{where} values", is_list, f"a list of values of {macro}")
    for value in values:
        _check_literal(value, f"{where} values")
    shown = [value if isinstance(value, str | int | float) else repr(value) for value in values]
    _check_different(shown, f"{where} values")
    return tuple(
        Choice(text, macros={macro: value}) for text, value in zip(shown, values, strict=True)
    )


def _settings(table: Any, where: str) -> tuple[Choice, ...]:
    """The named settings of an axis."""
    is_filled = isinstance(table, dict) and bool(table)
    expected = 'a table of named settings, e.g. finetune = { gin_files = ["tickets_finetune"] }'
    checked(table, where, is_filled, expected)
    choices = []
    for name, content in table.items():
        place = f"{where} {name}"
        if not is_line(name) or len(name) > _LONGEST:
            raise UserError(f"{place}: got the name {name!r}, expected up to {_LONGEST} characters")
        is_table = isinstance(content, dict)
        checked(content, place, is_table, "a table with gin_files, macros, or both")
        check_keys(content, place, ("gin_files", "macros"))
        choices.append(
            Choice(
                name,
                read_gin_files(content, place),
                read_macros(content.get("macros", {}), f"{place}: macros"),
            )
        )
    return tuple(choices)


def _check_different(values: Sequence[Value], where: str) -> None:
    for index, value in enumerate(values):
        if any(is_same(value, other) for other in values[:index]):
            raise UserError(f"{where}: got {value!r} twice, expected different values")


def check_keys(table: Mapping[str, Any], where: str, allowed: Sequence[str]) -> None:
    """Refuses a key that a table does not have.

    Raises:
      UserError: names the closest ones.
    """
    for key in table:
        if key not in allowed:
            raise UserError(f"{where}: unknown key {key!r}; {_at_top(key) or hint(key, allowed)}")


def _at_top(key: str) -> str:
    """What to say of a key that stands below a table, which TOML then takes for the table's."""
    if key not in TOP_KEYS:
        return ""
    return f"if it is meant for the whole file, put {key} above the first [table]"


def checked(value: Any, where: str, is_sound: bool, expected: str) -> Any:
    """A value of a file, if it is sound.

    Args:
      value: as the file has it.
      where: file, table and key.
      is_sound: whether it is what is expected.
      expected: what that is.

    Raises:
      UserError: it is not sound.
    """
    if not is_sound:
        raise UserError(f"{where}: got {value!r}, expected {expected}")
    return value


def is_line(value: object) -> bool:
    """Whether a value is a text of one printable line that is not blank."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def read_gin_files(table: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The value of `gin_files`, () without one."""
    names = table.get("gin_files", [])
    expected = 'a list of gin files, e.g. ["tickets_step_by_step"]'
    is_list = isinstance(names, list) and all(map(is_line, names))
    return tuple(checked(names, f"{where}: gin_files", is_list, expected))


def read_macros(table: Any, where: str) -> dict[str, object]:
    """A table of macros and values; whether a gin file declares them is checked by the plan.

    Args:
      table: as the file has it.
      where: file and table, for errors.

    Raises:
      UserError: a name that is no macro, or a value that no macro can have.
    """
    checked(table, where, isinstance(table, dict), "a table of macros and their values")
    for name, value in table.items():
        if not _MACRO.fullmatch(name):
            raise UserError(
                f"{where}: got the key {name!r}, expected a macro in capitals, e.g. NUM_LABELS"
                f"{'; ' if _at_top(name) else ''}{_at_top(name)}"
            )
        _check_not_seed(name, where)
        _check_literal(value, f"{where} {name}")
    return dict(table)


def _check_not_seed(name: str, where: str) -> None:
    if name == "SEED":
        raise UserError(
            f"{where} sets SEED, expected the key `seeds` at the top of the file, e.g. seeds = "
            "[1, 2, 3]"
        )


def _check_literal(value: Any, where: str) -> None:
    """Refuses what no macro can hold: dates and times, infinite numbers."""
    if isinstance(value, list):
        for each in value:
            _check_literal(each, where)
    elif isinstance(value, dict):
        for each in value.values():
            _check_literal(each, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: got {value}, expected a finite number")
    elif not isinstance(value, str | int | float):
        raise UserError(
            f"{where}: got {value}, expected a string, a number, true, false, a list or a table"
        )


def is_same(one: object, other: object) -> bool:
    """Whether two values of an axis are one: 1 and 1.0 are, 1 and true are not."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
