"""cqa: CommonsenseQA, five choices a question, with PaLM-540B rationales."""

from __future__ import annotations

from distill.data import datasets
from distill.data.examples import Example
from distill.data.spec import DataSpec
from tasks import released_files


def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
    """The released training and test rows."""
    return tuple(released_files.read(spec, "cqa", split) for split in ("train", "test"))


# The choices differ from row to row: there is no one closed set to score.
DATASET = datasets.register(
    datasets.Dataset(
        name="cqa",
        load=load,
        files=lambda spec: released_files.files(spec, ("cqa", "train"), ("cqa", "test")),
    )
)
