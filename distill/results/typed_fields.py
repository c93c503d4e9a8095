"""Dataclasses from JSON objects, each field checked against its type."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from distill.errors import UserError, hint

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Kind = TypeVar("Kind", bound=DataclassInstance)

_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
}


def build(kind: type[Kind], content: Mapping[str, Any], where: str) -> Kind:
    """An instance of a dataclass from the object of a line.

    Args:
      kind: the dataclass; its fields are strings, numbers, tuples of them, mappings or None.
      content: the object.
      where: file and line, for errors.

    Raises:
      UserError: a field that is missing, unknown or of another type; what the dataclass refuses.
    """
    fields = dataclasses.fields(kind)
    known = [field.name for field in fields]
    for name in content:
        if name not in known:
            raise UserError(f"{where}: unknown field {name!r}; {hint(name, known)}")
    for field in fields:
        if field.name not in content and field.default is dataclasses.MISSING:
            raise UserError(f"{where}: the field {field.name!r} is missing")
    values = {name: _checked(value, kind, name, where) for name, value in content.items()}
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _checked(value: Any, kind: type, name: str, where: str) -> Any:
    """A value of the field's type; JSON lists become tuples."""
    expected = _types(kind)[name]
    if isinstance(value, list):
        value = tuple(value)
    if not _is_of(value, expected):
        raise UserError(
            f"{where}: got {value!r} for the field {name!r}, expected {_name(expected)}"
        )
    return value


def _is_of(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is Ellipsis:
            return all(_is_of(each, inner[0]) for each in value)
        return len(value) == len(inner) and all(map(_is_of, value, inner))
    if origin is not None:  # a mapping
        return isinstance(value, dict) and all(
            _is_of(key, inner[0]) and _is_of(each, inner[1]) for key, each in value.items()
        )
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _name(kind: Any) -> str:
    """What a message calls a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_name, inner))
    if origin is tuple:
        return "a list of strings" if inner[-1] is Ellipsis else f"a list of {len(inner)} numbers"
    if origin is not None:
        return f"an object whose values are each {_name(inner[1])}"
    return _NAMES[kind]
