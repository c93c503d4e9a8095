"""tickets: the embedded tickets, annotated by the simulated teacher."""

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
    accuracy = float(spec.number("teacher_accuracy"))
    return simulated.annotate(pool, policy, accuracy, spec.data_seed), test


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
    simulated.annotate([], policy, float(spec.number("teacher_accuracy")), spec.data_seed)


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
