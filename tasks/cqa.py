"""cqa: CommonsenseQA, five choices a question, with PaLM-540B rationales."""

from __future__ import annotations

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.data.mapping.input_forms import ANSWER_CHOICES
from distill.data.released import source


def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
    """The released training and test rows."""
    return source.read_split(spec, "cqa", "train"), source.read_split(spec, "cqa", "test")


# The choices differ from row to row: there is no one closed set to score.
DATASET = datasets.register(
    datasets.Dataset(
        name="cqa",
        load=load,
        files=lambda spec: source.files(spec, ("cqa", "train"), ("cqa", "test")),
        input_form=ANSWER_CHOICES,
        check=source.check,
    )
)
