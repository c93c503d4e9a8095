"""The numbers that a macro takes, found by asking the checks of the dataclasses.

The checks are code. So that the page cannot differ from them, the ends of each interval are found
by bisection: `fields.build_run` either takes a value or raises UserError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from distill.config import fields
from distill.errors import MOST, UserError

_FAR = float(2**40)  # no setting has a bound of its own beyond it
# A configuration in which no macro limits another one.
_FREE = {
    "DATASET": "any",
    "METHOD": "step_by_step",
    "LABEL_WEIGHT": 0.5,
    "RATIONALE_WEIGHT": 0.5,
    "LEARNING_RATE": 1.0,
    "TRAIN_STEPS": 1,
    "WARMUP_STEPS": 0,
    "LOG_PERIOD": 1,
}
# What goes with a value of a macro that is checked together with another one.
_WITH: dict[str, Callable[[float], Mapping[str, object]]] = {
    "WARMUP_STEPS": lambda value: {"TRAIN_STEPS": MOST},
    "LABEL_WEIGHT": lambda value: {"RATIONALE_WEIGHT": 1 - value},
    "RATIONALE_WEIGHT": lambda value: {"LABEL_WEIGHT": 1 - value},
}


def accepts(macro: str, value: object) -> bool:
    """Whether the checks take a value of a macro, with other macros that do not limit it."""
    values = {name: 2 for name, default in fields.defaults().items() if default is fields.REQUIRED}
    values |= _FREE | _WITH.get(macro, lambda value: {})(value) | {macro: value}
    try:
        fields.build_run(values)
    except UserError:
        return False
    return True


def interval(macro: str, kind: str) -> str:
    """The numbers that a macro takes, e.g. ">= 1" or "[0, 1)"; "" for any.

    Args:
      macro: name of a bound macro.
      kind: "int" or "float".
    """
    inside: float
    low: float
    high: float
    if kind == "int":
        inside, low, high = 2, -MOST, MOST
    else:
        inside, low, high = 0.5, -_FAR, _FAR
    if not accepts(macro, inside):
        raise ValueError(f"{macro} does not take {inside}: change _FREE")
    least, opens = _end(macro, inside, low)
    most, closes = _end(macro, inside, high)
    if kind == "int" and most is not None and most >= MOST - 1:  # jax's integers, or TRAIN_STEPS
        most = None
    if least is not None and most is not None:
        return f"{'(' if opens else '['}{least:,}, {most:,}{')' if closes else ']'}"
    if least is not None:
        return f"{'>' if opens else '>='} {least:,}"
    return "" if most is None else f"{'<' if closes else '<='} {most:,}"


def _end(macro: str, inside: float, outside: float) -> tuple[int | None, bool]:
    """An end of the interval, None without one, and whether the interval is open there.

    Every bound is a whole number: it is the last number that is taken or the first that is not.
    """
    if accepts(macro, outside):
        return None, False
    while True:
        middle = (inside + outside) // 2 if isinstance(inside, int) else (inside + outside) / 2
        if middle in (inside, outside):
            break
        if accepts(macro, middle):
            inside = middle
        else:
            outside = middle
    is_open = inside != int(inside)
    return int(outside if is_open else inside), is_open
