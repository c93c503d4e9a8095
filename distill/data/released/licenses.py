"""Licenses of the datasets, as far as they are known: for TFDS metadata and model cards."""

RELEASED = {
    "esnli": "See the authors' pages of e-SNLI and SNLI; completions Apache-2.0.",
    "anli1": "CC BY-NC 4.0; completions Apache-2.0.",
    "cqa": "See the authors' pages of CommonsenseQA and CoS-E; completions Apache-2.0.",
    "svamp": "MIT; completions Apache-2.0.",
    "asdiv": "See the authors' page of ASDiv; completions Apache-2.0.",
}
GENERATED = "Apache-2.0"  # tickets
UNKNOWN = "That of the rows' owner."


def license_of(dataset: str) -> str:
    """The license of a dataset's rows, by the value of macro DATASET."""
    return GENERATED if dataset == "tickets" else RELEASED.get(dataset, UNKNOWN)
