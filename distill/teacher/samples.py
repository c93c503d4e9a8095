"""The samples of rows that are not stored yet, and the records of the answers to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from distill.data.examples import Example
from distill.teacher.client import Answer
from distill.teacher.sampling import Digests, key_of
from distill.teacher.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class PendingRow:
    """A row with samples that are not stored."""

    row: Example
    digest: str
    samples: tuple[int, ...]


def pending_rows(
    rows: Sequence[Example],
    digests: Digests,
    samples: int,
    store: Store | None,
    retry_failed: bool,
) -> Iterator[PendingRow | None]:
    """For each row in turn, its samples that are not stored, or None if all are."""
    state = store.state if store is not None else lambda key: None
    for row in rows:
        digest = digests.of(row)
        states = [state(key_of(row.id, digest, sample)) for sample in range(samples)]
        pending = [s for s, ok in enumerate(states) if ok is None or (retry_failed and not ok)]
        yield PendingRow(row, digest, tuple(pending)) if pending else None


def first_run(samples: Sequence[int]) -> list[int]:
    """The consecutive numbers at the start of a sorted list."""
    return [s for i, s in enumerate(samples) if s == samples[0] + i]


def record(task: PendingRow, sample: int, ok: bool) -> dict[str, object]:
    """The beginning of the record of a sample, answered or failed."""
    key = key_of(task.row.id, task.digest, sample)
    return {"key": key, "ok": ok, "id": task.row.id, "digest": task.digest, "sample": sample}


def answer_records(
    task: PendingRow, run: Sequence[int], answer: Answer, tokens: tuple[int, int]
) -> Iterator[dict[str, object]]:
    """The records of an answer to samples `run` of a row: of each that is missing and has a text.

    The tokens of a request stand with the first of them, so that sums are right; they are
    marked if the server did not count them.
    """
    for sample, text, finish in zip(run, answer.texts, answer.finish, strict=False):
        if sample not in task.samples:
            continue
        usage: dict[str, object] = {"in": tokens[0], "out": tokens[1]}
        if answer.tokens is None:
            usage["estimated"] = True
        yield record(task, sample, True) | {
            "completion": text,
            "finish": finish,
            "usage": usage,
        }
        tokens = (0, 0)
