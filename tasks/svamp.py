"""svamp: arithmetic word problems answered by an equation, correct if its value is."""

from __future__ import annotations

from collections.abc import Sequence

from distill.config.data import DataSpec
from distill.data import budget, datasets
from distill.data.examples import Example
from distill.data.released import equations, source
from distill.errors import UserError


def _asdiv(spec: DataSpec) -> float:
    """The share of ASDiv's rows that are training rows too: WITH_ASDIV; True is 1 and False 0."""
    share = spec.option("with_asdiv", False)
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"got WITH_ASDIV = {share!r}, expected True, False, or a share from 0 to 1")
    return float(share)


def _train(spec: DataSpec) -> list[tuple[str, str]]:
    return [("svamp", "train"), *([("asdiv", "train")] if _asdiv(spec) else [])]


def _check(spec: DataSpec) -> None:
    _asdiv(spec)
    source.check(spec)


def load(spec: DataSpec) -> tuple[Sequence[Example], Sequence[Example]]:
    """The released training and test rows; with WITH_ASDIV, rows of ASDiv for training too.

    A smaller share of ASDiv is a part of a larger one, as with NUM_LABELS.
    """
    train = source.read_split(spec, "svamp", "train")
    if share := _asdiv(spec):
        more = source.read_split(spec, "asdiv", "train")
        chosen = budget.order(more, spec.data_seed)[: int(share * len(more))]
        train += [more[index] for index in sorted(chosen)]
    return train, source.read_split(spec, "svamp", "test")


DATASET = datasets.register(
    datasets.Dataset(
        name="svamp",
        load=load,
        files=lambda spec: source.files(spec, *_train(spec), ("svamp", "test")),
        correct=equations.same_value,
        check=_check,
    )
)
