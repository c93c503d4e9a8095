"""What the files of a run folder hold: run.json and results.json."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from distill.data.cache_meta import Counts, TaskTokens
from distill.data.counts.data_line import DataSummary


class InitialCheckpoint(TypedDict):
    """The checkpoint that a run started from."""

    macro: str
    path: str
    kind: str
    digest: str
    step: int | None


class RunDescription(TypedDict):
    """run.json: what a run was made of; see `provenance.describe_run`."""

    versions: dict[str, str]
    git_commit: str | None
    files: dict[str, str]
    data_digest: str
    spec_digest: str
    rows: dict[str, int]
    row_digests: dict[str, str]
    counts: Counts
    tasks: dict[str, TaskTokens]
    data: DataSummary
    steps_per_epoch: float
    epochs: float
    bindings: dict[str, str]
    binding_files: dict[str, str]
    initial: NotRequired[InitialCheckpoint]
    layout: NotRequired[str]
    parts: NotRequired[int]
    checkpoint_digests: NotRequired[bool]
    t5x_commit: NotRequired[str | None]


class RunFacts(TypedDict):
    """The keys of results.json that are known before training."""

    engine: str
    method: str
    dataset: str
    dataset_options: dict[str, object]
    labels: int
    label_source: str
    label_weight: float
    normalization: str
    seed: int
    steps: int
    parameters: int


class Results(RunFacts):
    """results.json; accuracy and interval are None without test rows that have a gold label."""

    accuracy: float | None
    interval: list[float] | None
    ranked_accuracy: float | None
    n_test: int
    checkpoint_step: int
    seconds: float
