"""svamp: arithmetic word problems answered by an equation, correct if its value is."""

from __future__ import annotations

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.data.released import equations, source


def _train(spec: DataSpec) -> list[tuple[str, str]]:
    extra = [("asdiv", "train")] if spec.option("with_asdiv", False) else []
    return [("svamp", "train"), *extra]


def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
    """The released training and test rows; with WITH_ASDIV, ASDiv's for training too."""
    train = [row for part in _train(spec) for row in source.read_split(spec, *part)]
    return train, source.read_split(spec, "svamp", "test")


DATASET = datasets.register(
    datasets.Dataset(
        name="svamp",
        load=load,
        files=lambda spec: source.files(spec, *_train(spec), ("svamp", "test")),
        correct=equations.same_value,
        check=source.raw_dir,
    )
)
