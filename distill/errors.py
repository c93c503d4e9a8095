"""The one exception for bad input, and the hint of the closest valid names."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Result = TypeVar("_Result")
_Other = TypeVar("_Other")
_ALIKE = 0.6  # likeness from which on a name may be a misspelling of another; difflib's default
TRY_AGAIN = 75  # exit code of `HostMissing`, EX_TEMPFAIL of sysexits.h
_FEW = 20  # names that an error may list
MOST = 2**31 - 1  # of a whole number: jax computes with 32 bits


class UserError(Exception):
    """Input that a user can put right.

    The message says what was got, what was expected, where it stands (file and
    line, or macro) and how to fix it. The command line prints it without a
    traceback and exits with 2.
    """


class NotSet(UserError):
    """Macros that a run needs and nothing sets.

    Attributes:
      messages: one for each macro.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("; also: ".join(messages))
        self.messages = messages


class CheckFailed(UserError):
    """Sound input that is refused for what was found out about it.

    Attributes:
      result: what was found, which the command line prints as it prints a success.
    """

    def __init__(self, message: str, result: Mapping[str, object]) -> None:
        super().__init__(message)
        self.result = result


class HostMissing(UserError):
    """A host of the run is missing; nothing is wrong with the command, which may be repeated."""


class Stopped(BaseException):
    """A signal ends the run: no error, and nothing that an `except Exception` should keep.

    Attributes:
      number: of the signal; the exit code is 128 more.
      saved_step: the newest step that is saved; None if none is.
    """

    def __init__(self, number: int, saved_step: int | None = None) -> None:
        super().__init__(number, saved_step)
        self.number, self.saved_step = number, saved_step

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return f"stopped by {name}: {describe_saved(self.saved_step)}"


class Interrupted(Stopped, KeyboardInterrupt):
    """Ctrl-C ends a run that has saved its state."""

    def __str__(self) -> str:
        return f"interrupted: {describe_saved(self.saved_step)}"


def stopped_by(number: int, saved_step: int | None = None) -> Stopped:
    """The exception of a signal that ends a run.

    Args:
      number: of the signal.
      saved_step: the newest step that is saved; None if none is.
    """
    return (Interrupted if number == signal.SIGINT else Stopped)(number, saved_step)


def describe_saved(step: int | None) -> str:
    """Where a run goes on after its end by a signal: from the step, or with None from the start."""
    if step is None:
        return "nothing is saved yet; the same command starts again"
    return f"step {step} is saved; the same command resumes there"


@contextlib.contextmanager
def tells_on_interrupt(kept: str) -> Iterator[None]:
    """Within its block, Ctrl-C ends with a message that says what is kept.

    Args:
      kept: the message, after "interrupted: ".
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"interrupted: {kept}") from interrupt


def closest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names most like `name`, best first (never empty if names is not).

    Upper and lower case are alike: flags, macros and values differ in it.
    """
    ordered = sorted({*names}, key=lambda each: (-_likeness(str(name), each), each))
    return ordered[:count]


def alike(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Those of the `closest` names that `name` may be a misspelling of; [] if there are none."""
    return [each for each in closest(name, names, count) if _likeness(name, each) >= _ALIKE]


def hint(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """What an error says about the valid names after an invalid one.

    Args:
      name: the one that was given.
      names: the valid ones.
      otherwise: what to say instead where none of many names is like it.

    Returns:
      "closest: a, b" for those that are like it; else all names, if they are few.
    """
    known = sorted({*names})
    if near := alike(name, known):
        return f"closest: {', '.join(near)}"
    if not known:
        return "there are none"
    if len(known) <= _FEW:
        return f"expected one of {', '.join(known)}"
    return otherwise or f"none of the {len(known)} valid names is like it"


def _likeness(name: str, other: str) -> float:
    folded = difflib.SequenceMatcher(None, other.casefold(), name.casefold()).ratio()
    return folded + 1e-3 * difflib.SequenceMatcher(None, other, name).ratio()


@functools.lru_cache(maxsize=1024)
def misspelled(name: str, names: tuple[str, ...]) -> str | None:
    """The one of `names` that `name` is probably a misspelling of, or None.

    That is one which differs in case or in its separators alone (`Teacher Label`), or by one edit
    of a letter (inserted, left out, replaced, or exchanged with its neighbor), by two from nine
    letters on. Names under five letters have too many neighbors of their own (`id` and `idx`) for
    that.
    """
    for known in names:
        plain = (text.casefold().translate(_SEPARATORS) for text in (name, known))
        if name != known and len({*plain}) == 1:
            return known
    for known in names:
        limit = 0 if len(known) < 5 else 1 if len(known) < 9 else 2
        if 0 < _edits(name.casefold(), known) <= limit:
            return known
    return None


_SEPARATORS = str.maketrans("", "", " _-")


def _edits(a: str, b: str) -> int:
    """Edits between two texts, neighbors exchanged as one (optimal string alignment)."""
    if abs(len(a) - len(b)) > 2:
        return abs(len(a) - len(b))
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        now = [i]
        for j, y in enumerate(b, start=1):
            edits = min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                edits = min(edits, before[j - 2] + 1)
            now.append(edits)
        before, last = last, now
    return last[-1]


def unknown(kind: str, got: str, names: Iterable[str], where: str) -> UserError:
    """An error for a name that is not one of `names`.

    Args:
      kind: what the name stands for, e.g. "dataset".
      got: the name that was given.
      names: the valid ones.
      where: the macro, file or flag that set it, e.g. "macro DATASET".
    """
    return UserError(f"unknown {kind} {got!r} (set by {where}); {hint(got, names)}")


def check_all(checks: Iterable[Callable[[], _Result]]) -> list[_Result]:
    """Calls all checks, so that a user is told of all that they refuse at once.

    Args:
      checks: functions without arguments.

    Returns:
      What they return, in their order.

    Raises:
      UserError: one message for all of them.
    """
    results, messages = [], []
    for check in checks:
        try:
            results.append(check())
        except UserError as error:
            messages.append(str(error))
    if messages:
        raise UserError("; also: ".join(dict.fromkeys(each.rstrip(".") for each in messages)))
    return results


def check_both(
    first: Callable[[], _Result], second: Callable[[], _Other]
) -> tuple[_Result, _Other]:
    """`check_all` of two checks whose results differ in type."""
    checks: tuple[Callable[[], object], ...] = (first, second)
    one, two = check_all(checks)
    return cast(_Result, one), cast(_Other, two)


def check_types(config: DataclassInstance, macros: Mapping[str, str] | None = None) -> None:
    """Compares the fields of a dataclass that are declared `int`, `float`, `str` or `bool`.

    Args:
      config: the dataclass; its module has `from __future__ import annotations`.
      macros: name of the macro of a field, where it is not the field's in capitals.

    Raises:
      UserError: a value of another type, naming its macro; a truth value is not a number. A
        number that is not finite, or a whole number above MOST, which jax does not hold.
    """
    expected: dict[str, tuple[type | tuple[type, ...], str]] = {
        "int": (int, "an integer"),
        "float": ((int, float), "a number"),
        "str": (str, "a string"),
        "bool": (bool, "True or False"),
    }
    for field in dataclasses.fields(config):
        if not isinstance(field.type, str) or field.type not in expected:
            continue
        kind, text = expected[field.type]
        value = getattr(config, field.name)
        macro = (macros or {}).get(field.name, field.name.upper())
        is_of_kind = isinstance(value, kind)
        if not is_of_kind or (isinstance(value, bool) and field.type != "bool"):
            raise UserError(f"got {macro} = {value!r}, expected {text}")
        if field.type == "int" and abs(value) > MOST:
            raise UserError(f"got {macro} = {value}, expected an integer of at most {MOST:,}")
        if field.type == "float" and not abs(value) <= sys.float_info.max:
            raise UserError(f"got {macro} = {value}, expected a finite number")
