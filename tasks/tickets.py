"""tickets: the embedded tickets, annotated by the simulated teacher."""

from __future__ import annotations

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.tickets import generator
from distill.tickets import teacher as simulated


def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
    """Tickets of the run's seed: a pool with teacher labels and rationales, and a test set."""
    policy = str(spec.option("policy"))
    pool = generator.generate(policy, spec.number("num_rows", whole=True), spec.data_seed, "train")
    test = generator.generate(policy, spec.number("num_test", whole=True), spec.data_seed, "test")
    accuracy = float(spec.number("teacher_accuracy"))
    return simulated.annotate(pool, policy, accuracy, spec.data_seed), test


DATASET = datasets.register(
    datasets.Dataset(
        name="tickets",
        load=load,
        labels=lambda spec: generator.LABELS,
        words=lambda spec: generator.words(),
    )
)
