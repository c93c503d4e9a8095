"""tickets: the embedded tickets, annotated by one or several simulated teachers."""

from __future__ import annotations

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.errors import UserError
from distill.tickets import generator
from distill.tickets import teacher as simulated


def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
    """Tickets of the run's seed: a pool with teacher labels and rationales, and a test set."""
    policy = str(spec.option("policy"))
    pool = generator.generate(policy, _count(spec, "num_rows", "train"), spec.data_seed, "train")
    test = generator.generate(policy, _count(spec, "num_test", "test"), spec.data_seed, "test")
    return simulated.annotate(pool, policy, _accuracies(spec), spec.data_seed), test


def _accuracies(spec: DataSpec) -> tuple[float, ...]:
    """That of each simulated teacher: TEACHER_ACCURACY is a number, or several."""
    value = spec.option("teacher_accuracy")
    if not isinstance(value, tuple | list):
        return (float(spec.number("teacher_accuracy")),)
    if not value or any(isinstance(x, bool) or not isinstance(x, int | float) for x in value):
        raise UserError(
            f"got TEACHER_ACCURACY = {value!r}, expected a number, or one for each teacher, e.g. "
            "(0.85, 0.7)"
        )
    return tuple(map(float, value))


def _count(spec: DataSpec, option: str, split: str) -> int:
    """A number of tickets that there are."""
    count, (first, end) = spec.number(option, whole=True), generator.SPLITS[split]
    if not 1 <= count <= end - first:
        raise UserError(f"got {option.upper()} = {count}, expected 1 to {end - first} tickets")
    return count


def check(spec: DataSpec) -> None:
    """Refuses settings of which there are no tickets."""
    policy = str(spec.option("policy"))
    generator.policy(policy)
    for option, split in (("num_rows", "train"), ("num_test", "test")):
        _count(spec, option, split)
    simulated.annotate([], policy, _accuracies(spec), spec.data_seed)


DATASET = datasets.register(
    datasets.Dataset(
        name="tickets",
        load=load,
        labels=lambda spec: generator.LABELS,
        words=lambda spec: generator.words(),
        check=check,
        most_rows=lambda spec: _count(spec, "num_rows", "train"),
    )
)
