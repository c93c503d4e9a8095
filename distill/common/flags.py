"""Command-line flags that are derived from the fields of dataclasses.

    @dataclasses.dataclass(frozen=True)
    class Settings:
        concurrency: int = flag(16, "requests under way at once", least=1)
        max_cost: float | None = flag(None, "stop before this run costs more", metavar="USD")

        def __post_init__(self) -> None:
            check_bounds(self)

    add_flags(parser, Settings)
    settings = from_options(Settings, parser.parse_args())

A field's name, type and default are those of its flag: `bool` is a switch, `tuple[str, ...]` a flag
that may be repeated, `float | None` a number that may be left out. A field of
such a dataclass with metadata `title` is a group of flags. Fields without metadata have no flag.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from distill.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Settings = TypeVar("_Settings")


def flag(
    default: object,
    help: str,
    *,
    name: str | None = None,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field with a flag.

    Args:
      default: the field's default; `--help` shows it.
      help: what the flag says, in one line.
      name: of the flag, without dashes; None takes the field's.
      metavar: what the help calls the value.
      choices: the texts that are allowed.
      least, most: closed bounds of a number, see `check_bounds`.
      above: open lower bound; infinity is refused too.
    """
    metadata = {
        "help": help,
        "name": name,
        "metavar": metavar,
        "choices": choices,
        "least": least,
        "most": most,
        "above": above,
    }
    return dataclasses.field(default=default, metadata=metadata)


def add_flags(parser: argparse._ActionsContainer, settings: type) -> None:
    """Adds a flag for each field of a dataclass that has one.

    Args:
      parser: a parser or a group of one.
      settings: the dataclass.
    """
    for field, kind in _fields(settings):
        if "title" in field.metadata:
            add_flags(parser.add_argument_group(field.metadata["title"]), kind)
            continue
        options: dict[str, Any] = {"help": _help(field), "default": field.default}
        if kind is bool:
            options["action"] = "store_true"
        else:
            options |= {name: field.metadata[name] for name in ("metavar", "choices")}
            options["type"] = kind
        if typing.get_origin(kind) is tuple:
            options |= {"action": "append", "type": typing.get_args(kind)[0], "default": None}
        parser.add_argument(f"--{flag_name(field)}", **options)


def from_options(settings: type[_Settings], options: argparse.Namespace) -> _Settings:
    """The dataclass that parsed flags describe.

    Raises:
      UserError: what the dataclass refuses.
    """
    values: dict[str, object] = {}
    for field, kind in _fields(settings):
        if "title" in field.metadata:
            values[field.name] = from_options(kind, options)
            continue
        value = getattr(options, flag_name(field))
        if value is not None:
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return settings(**values)


def given_flags(settings: DataclassInstance) -> list[str]:
    """The flags of a dataclass that have another value than their default, e.g. "--rows"."""
    return [
        f"--{flag_name(field)}"
        for field in dataclasses.fields(settings)
        if "help" in field.metadata and getattr(settings, field.name) != field.default
    ]


def check_used(flags: Iterable[str], where: str) -> None:
    """Refuses flags that a command would ignore.

    Args:
      flags: those of them that are given, e.g. "--rows".
      where: what they need, after "works only".

    Raises:
      UserError: there is one; it names the first.
    """
    for name in flags:
        raise UserError(f"{name} works only {where}")


def flag_name(field: dataclasses.Field) -> str:
    """The name of a field's flag, without dashes."""
    return field.metadata.get("name") or field.name


def check_bounds(settings: DataclassInstance) -> None:
    """Compares the numbers of a dataclass with the bounds of their fields; None has no bounds.

    A number that is not finite is refused whether or not it has bounds.

    Raises:
      UserError: a number outside its bounds, or none at all; it names the flag.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        least, most, above = (field.metadata.get(name) for name in ("least", "most", "above"))
        finite = not isinstance(value, float) or abs(value) <= sys.float_info.max
        if value is None or (finite and (least, most, above) == (None, None, None)):
            continue
        if above is not None and not above < value < float("inf"):
            expected = f"more than {above}"
        elif (least is not None and not value >= least) or (most is not None and not value <= most):
            expected = f"at least {least}" if most is None else f"between {least} and {most}"
        elif not finite:
            expected = "a finite number"
        else:
            continue
        raise UserError(f"got --{flag_name(field)} {value}, expected {expected}")


def _fields(settings: type) -> Iterator[tuple[dataclasses.Field, type]]:
    """The fields with a flag or a title, and their types without `| None`."""
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if field.metadata:
            kind = hints[field.name]
            if typing.get_origin(kind) in (typing.Union, types.UnionType):
                (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
            yield field, kind


def _help(field: dataclasses.Field) -> str:
    text, default = field.metadata["help"], field.default
    if default is not None and default is not False and default not in ("", ()):
        shown = f"{default:g}" if isinstance(default, float) else default
        text = f"{text} (default: {shown})"
    return text.replace("%", "%%")
