"""What the token cache's meta.json holds."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from distill.data.several import Several


class TaskTokens(TypedDict):
    """Token statistics of a task.

    Attributes:
      rows: training rows that have a target.
      mean_target_tokens: of their targets, as trained; each training row counts 1/m
        (`distill.data.several`).
      max_target_tokens: of their targets, as trained.
      inputs: `SequenceCounts` of all splits, before sequences are cut.
      targets: the same for the targets.
      labels_not_covered: of the label task: rows whose label the vocabulary cannot write.
    """

    rows: int
    mean_target_tokens: float
    max_target_tokens: int
    inputs: dict[str, int]
    targets: dict[str, int]
    labels_not_covered: NotRequired[int]


class Counts(TypedDict):
    """`BudgetCounts` of the training rows."""

    rows: int
    dropped: int
    train: int
    validation: int
    reasons: dict[str, int]
    outside: NotRequired[dict[str, int]]


class Survey(TypedDict):
    """What `RowSurvey.counts` finds."""

    test_inputs_in_training: int
    contradicting_rows: int
    classes: int
    without_rationale: int


class CacheMeta(TypedDict):
    """The whole file; `files` and `rows` are keyed by path and split.

    Attributes:
      rationales: of the training rows, if any row has several.
      warnings: lines of `distill.data.check.training`.
      unknown_characters: some that the vocabulary does not have, by field.
    """

    format: int
    data_digest: str
    files: dict[str, str]
    rows: dict[str, int]
    row_digests: dict[str, str]
    counts: Counts
    unscored: int
    rationales: NotRequired[Several]
    survey: Survey
    warnings: list[str]
    unknown_characters: dict[str, list[str]]
    tasks: dict[str, TaskTokens]
    contents: dict[str, dict[str, object]]
