"""Chooses and sorts records by their axes and fields: `labels>=500`, `method=finetune`."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from distill.errors import UserError, hint
from distill.results.record import FIELDS, Record

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_NOT_SORTED = ("axes", "versions", "gin_files", "overrides", "interval")


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a record has to fulfill.

    Attributes:
      name: of an axis or a field.
      sign: one of = != < <= > >=.
      value: the value to compare with, as text.
    """

    name: str
    sign: str
    value: str

    def holds(self, record: Record) -> bool:
        """Whether a record fulfills it; a record without the value fulfills `!=` alone."""
        found = value_of(record, self.name)
        wanted = _like(self.value, found)
        if self.sign in ("=", "!="):
            return _OPERATORS[self.sign](found, wanted)
        if found is None or isinstance(found, str) != isinstance(wanted, str) or wanted is None:
            return False
        return _OPERATORS[self.sign](found, wanted)


def parse_conditions(texts: Iterable[str], names: Sequence[str]) -> list[Condition]:
    """The conditions of `--where`.

    Args:
      texts: such as "labels>=500".
      names: of `names_of`.

    Raises:
      UserError: another form, or an unknown name.
    """
    conditions = []
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UserError(
                f"got --where={text!r}, expected NAME=VALUE, or one of != < <= > >= in place of ="
            )
        check_name(match[1], names, "--where")
        conditions.append(Condition(match[1], match[2], match[3]))
    return conditions


def names_of(records: Iterable[Record]) -> list[str]:
    """The axes of any record, in the order in which they come, and then the fields."""
    axes = dict.fromkeys(name for record in records for name in record.axes)
    return [*axes, *(name for name in FIELDS if name not in axes)]


def check_name(name: str, names: Sequence[str], flag: str) -> None:
    """Refuses a name that is neither an axis nor a field.

    Raises:
      UserError: names the closest ones.
    """
    if name not in names:
        known = f"they are {', '.join(names)}"
        raise UserError(
            f"got {flag} with the unknown name {name!r}, expected an axis of the sweep or a field "
            f"of a record; {hint(name, names, known)}"
        )


def value_of(record: Record, name: str) -> Any:
    """The value of an axis or, where there is no such axis, of a field; None if it has neither."""
    if name in record.axes:
        return record.axes[name]
    return getattr(record, name, None)


def select(records: Sequence[Record], conditions: Sequence[Condition]) -> list[Record]:
    """The records that fulfill all conditions.

    Raises:
      UserError: a condition on numbers with a value that is none.
    """
    for condition in conditions:
        _check_value(condition, records)
    return [each for each in records if all(condition.holds(each) for condition in conditions)]


def unmet(records: Sequence[Record], conditions: Sequence[Condition]) -> str | None:
    """The first condition NAME=VALUE whose value no record has, with the closest; None if none."""
    for condition in conditions:
        values = _values(records, condition.name)
        if condition.sign != "=" or any(condition.holds(record) for record in records):
            continue
        known = [str(value) for value in values]
        shown = f"the values are {', '.join(known)}" if known else "no run has a value"
        wanted = hint(condition.value, known, shown)
        return f"no run has {condition.name} = {condition.value!r}; {wanted}"
    return None


def _values(records: Iterable[Record], name: str) -> list[Any]:
    """The different values of an axis or a field, without None."""
    found: list[Any] = []
    for value in (value_of(record, name) for record in records):
        if value is not None and value not in found:
            found.append(value)
    return found


def _check_value(condition: Condition, records: Sequence[Record]) -> None:
    values = _values(records, condition.name)
    numbers = [isinstance(value, int | float) and value is not True for value in values]
    wanted = _like(condition.value, 0.0)
    if numbers and all(numbers) and isinstance(wanted, str) and wanted.casefold() not in _WORDS:
        raise UserError(
            f"got --where={condition.name}{condition.sign}{condition.value}, expected a number, "
            f"e.g. {values[0]}"
        )


def sort(records: Iterable[Record], keys: Sequence[str], names: Sequence[str]) -> list[Record]:
    """The records sorted by several keys, the first of which counts most.

    Args:
      records: the records; the order of equal ones stays.
      keys: names of axes or fields; "-NAME" sorts from high to low. Records without the value are
        last either way.
      names: of `names_of`.

    Raises:
      UserError: an unknown name, or a field that has no order.
    """
    found = list(records)
    for key in reversed(keys):
        name = key.removeprefix("-")
        check_name(name, names, "--sort")
        if name in _NOT_SORTED:
            raise UserError(f"got --sort={key}, which has no order: it is not one value")
        with_value = [each for each in found if value_of(each, name) is not None]
        without = [each for each in found if value_of(each, name) is None]

        def rank(record: Record, name: str = name) -> tuple[bool, Any]:
            value = value_of(record, name)
            return isinstance(value, str), value

        found = sorted(with_value, key=rank, reverse=key.startswith("-")) + without
    return found


def _like(text: str, value: object) -> Any:
    """The value that a text means, compared with a value of an axis or a field."""
    if isinstance(value, bool) or value is None:
        return _WORDS.get(text.casefold(), text)
    if isinstance(value, int | float):
        try:
            return float(text.replace(",", "").replace("_", ""))
        except ValueError:
            return text
    return text
