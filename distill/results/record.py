"""The record of one run of a sweep: what was run, and what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from distill.errors import UserError
from distill.results.typed_fields import build

FORMAT = 1
DONE, FAILED = "done", "failed"
Value = str | int | float | bool  # of an axis
_FORMER = ("latency_ms",)  # fields of older records that were always null


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One attempt at a run; a JSON object a line of records.jsonl.

    Attributes:
      format: FORMAT.
      run: id of the run: its axis values, its seed, and digits of `config_digest`.
      sweep: name of the sweep that ran it.
      status: DONE or FAILED.
      attempt: 1 for the first attempt at the run.
      axes: value of each axis as tables show it, in the order of the sweep file; without the seed.
      seed: the macro SEED.
      gin_files: of the run, in order.
      overrides: `NAME=value` texts.
      config_digest: sha256 of the macros that differ from their defaults, SEED included.
      method, dataset: METHOD and DATASET.
      labels: NUM_LABELS as it was used; None if the run ended before it was known.
      train_rows: training rows; None as for `labels`.
      label_weight: LABEL_WEIGHT.
      steps, batch_size: TRAIN_STEPS and BATCH_SIZE.
      parameters: of the student; None as for `labels`.
      accuracy: on the test rows; None for a failed run, and without test rows.
      interval: its 95% Wilson interval.
      n_test: number of test rows.
      ranked_accuracy: accuracy of the most probable label; None without a closed set.
      validation_accuracy: of the checkpoint that was scored; None if it was not evaluated.
      checkpoint_step: step of that checkpoint.
      teacher_accuracy: share of the rows of the label budget (training and validation) with a gold
        label whose teacher label is correct, a missing one being wrong; None if the data are not
        there, or no such row has a teacher label.
      train_flops: floating-point operations of the matrix products of all training steps, without
        padding and recomputation; None if unknown.
      seconds: time of the attempt.
      started, ended: ISO 8601, UTC.
      host: machine.
      versions: version by package; "python" and "distill" among them.
      git_commit: of the checkout; None outside of one.
      error: message of a failed attempt; None for a finished one.
      folder: the run folder, relative to the folder of records.jsonl.

    Raises:
      UserError: values that contradict each other.
    """

    run: str
    sweep: str
    status: str
    attempt: int
    axes: Mapping[str, Value]
    seed: int
    gin_files: tuple[str, ...]
    overrides: tuple[str, ...]
    config_digest: str
    method: str
    dataset: str
    labels: int | None = None
    train_rows: int | None = None
    label_weight: float
    steps: int
    batch_size: int
    parameters: int | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    n_test: int | None = None
    ranked_accuracy: float | None = None
    validation_accuracy: float | None = None
    checkpoint_step: int | None = None
    teacher_accuracy: float | None = None
    train_flops: float | None = None
    seconds: float
    started: str
    ended: str
    host: str
    versions: Mapping[str, str]
    git_commit: str | None = None
    error: str | None = None
    folder: str
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise UserError(f"got format {self.format}, expected {FORMAT}")
        if self.status not in (DONE, FAILED):
            raise UserError(f"got status {self.status!r}, expected {DONE!r} or {FAILED!r}")
        if (self.error is None) != (self.status == DONE):
            raise UserError(
                f"got error {self.error!r} with status {self.status!r}, expected a message with "
                f"{FAILED!r} and null with {DONE!r}"
            )
        if self.attempt < 1:
            raise UserError(f"got attempt {self.attempt}, expected 1 or more")
        for name in ("accuracy", "ranked_accuracy", "validation_accuracy", "teacher_accuracy"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"got {name} {value}, expected a number from 0 to 1")

    @property
    def is_done(self) -> bool:
        """Whether the run is finished."""
        return self.status == DONE

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for `json.dumps`; `format` first."""
        fields = dataclasses.asdict(self)
        return {"format": fields.pop("format"), **fields}


FIELDS = tuple(field.name for field in dataclasses.fields(Record))


def from_json(content: Mapping[str, Any], where: str) -> Record:
    """A record from the object of its line.

    Args:
      content: the object.
      where: file and line, for errors.

    Raises:
      UserError: another format; a field that is missing, unknown or of another type.
    """
    if content.get("format") != FORMAT:
        raise UserError(
            f"{where}: got a record of format {content.get('format')!r}, expected {FORMAT}: read "
            "the file with the version of distill that wrote it"
        )
    content = {k: v for k, v in content.items() if k not in _FORMER or v is not None}
    return build(Record, content, where)
