"""The one exception for bad input, and the hint of the closest valid names."""

from __future__ import annotations

import dataclasses
import difflib
import signal
import sys
from collections.abc import Iterable, Mapping

MOST = 2**31 - 1  # of a whole number: jax computes with 32 bits


class UserError(Exception):
    """Input that a user can put right.

    The message says what was got, what was expected, where it stands (file and
    line, or macro) and how to fix it. The command line prints it without a
    traceback and exits with 2.
    """


class CheckFailed(UserError):
    """Sound input that is refused for what was found out about it.

    Attributes:
      result: what was found, which the command line prints as it prints a success.
    """

    def __init__(self, message: str, result: dict[str, object]) -> None:
        super().__init__(message)
        self.result = result


class Stopped(BaseException):
    """A signal ends the run: no error, and nothing that an `except Exception` should keep.

    Attributes:
      number: of the signal; the exit code is 128 more.
      saved: what was saved for it, "" for nothing.
    """

    def __init__(self, number: int, saved: str = "") -> None:
        super().__init__(number, saved)
        self.number, self.saved = number, saved

    def __str__(self) -> str:
        saved = self.saved or "what was saved before stays"
        name = signal.Signals(self.number).name
        return f"stopped by {name}: {saved}; the same command goes on from there"


def closest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names most like `name`, best first (never empty if names is not).

    Upper and lower case are alike: flags, macros and values differ in it.
    """
    ordered = sorted(names, key=lambda each: (-_likeness(str(name), each), each))
    return ordered[:count]


def _likeness(name: str, other: str) -> float:
    folded = difflib.SequenceMatcher(None, other.casefold(), name.casefold()).ratio()
    return folded + 1e-3 * difflib.SequenceMatcher(None, other, name).ratio()


def unknown(kind: str, got: str, names: Iterable[str], where: str) -> UserError:
    """An error for a name that is not one of `names`.

    Args:
      kind: what the name stands for, e.g. "dataset".
      got: the name that was given.
      names: the valid ones.
      where: the macro, file or flag that set it, e.g. "macro DATASET".
    """
    hint = ", ".join(closest(got, names)) or "there are none"
    return UserError(f"unknown {kind} {got!r} (set by {where}); closest: {hint}")


def check_types(config: object, macros: Mapping[str, str] | None = None) -> None:
    """Compares the fields of a dataclass that are declared `int`, `float`, `str` or `bool`.

    Args:
      config: the dataclass; its module has `from __future__ import annotations`.
      macros: name of the macro of a field, where it is not the field's in capitals.

    Raises:
      UserError: a value of another type, naming its macro; a truth value is not a number. A
        number that is not finite, or a whole number above MOST, which jax does not hold.
    """
    expected = {
        "int": (int, "a whole number"),
        "float": ((int, float), "a number"),
        "str": (str, "a text"),
        "bool": (bool, "True or False"),
    }
    for field in dataclasses.fields(config):
        if field.type not in expected:
            continue
        kind, text = expected[field.type]
        value = getattr(config, field.name)
        macro = (macros or {}).get(field.name, field.name.upper())
        if not isinstance(value, kind) or (isinstance(value, bool) and field.type != "bool"):
            raise UserError(f"got {macro} = {value!r}, expected {text}")
        if field.type == "int" and abs(value) > MOST:
            raise UserError(f"got {macro} = {value}, expected a whole number of at most {MOST:,}")
        if field.type == "float" and not abs(value) <= sys.float_info.max:
            raise UserError(f"got {macro} = {value}, expected a finite number")
