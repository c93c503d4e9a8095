"""esnli: natural language inference with PaLM-540B rationales, split by premise."""

from __future__ import annotations

from distill.data import datasets, released
from distill.data.examples import Example
from distill.data.spec import DataSpec
from distill.errors import UserError

# The test premises are the same for every seed of a run.
SPLIT_SEED = 0


def _raw_dir(spec: DataSpec) -> str:
    raw_dir = str(spec.option("raw_dir", ""))
    if not raw_dir:
        raise UserError(
            "macro RAW_DIR is not set: give the folder of the data that the paper's authors "
            "released with --raw_dir=... (see docs/data.md)"
        )
    return raw_dir


def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
    """Rows of one released file, cut in two so that no premise is on both sides."""
    rows = released.read_nli(_raw_dir(spec), "esnli", str(spec.option("raw_split")))
    return released.split_by_premise(rows, float(spec.option("test_fraction")), SPLIT_SEED)


DATASET = datasets.register(
    datasets.Dataset(
        name="esnli",
        load=load,
        labels=lambda spec: released.NLI_LABELS,
        files=lambda spec: released.files_of(
            _raw_dir(spec), "esnli", str(spec.option("raw_split"))
        ),
    )
)
