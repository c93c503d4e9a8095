"""Answer rules by the name that a run folder stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from distill.common.accuracy import matches_exactly
from distill.data import datasets
from distill.data.released import equations

# Answer rules by the name that a run folder stores; a dataset of a user may bring its own.
RULES: Mapping[str, Callable[[str, str], bool]] = {
    "exact_match": matches_exactly,
    "same_value": equations.same_value,
}


def rule_name(correct: Callable[[str, str], bool]) -> str:
    """The name of an answer rule; `<module>.<function>` for one that is not in RULES."""
    for name, rule in RULES.items():
        if rule is correct:
            return name
    return f"{correct.__module__}.{correct.__qualname__}"


def find_rule(name: str, dataset: str) -> Callable[[str, str], bool] | None:
    """The answer rule of this name; None if it is of a dataset that is not registered."""
    if name in RULES:
        return RULES[name]
    known = datasets.find_dataset(dataset)
    return known.correct if known is not None and rule_name(known.correct) == name else None
