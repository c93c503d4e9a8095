"""The samples of rows that are not stored yet, and the records of the answers to them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from distill.common.terminal import printable
from distill.data.examples import Example
from distill.teacher.answers.problems import problem_of
from distill.teacher.keys import key_of
from distill.teacher.outcomes import Answer, is_broken_off
from distill.teacher.sampling import Digests
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
    """For each row in turn, its samples that are not stored.

    None stands for a row of which all are, and for one whose request an earlier row makes.
    """
    claimed: set[bytes] = set()
    for row in rows:
        digest = digests.of(row)
        states: list[bool | None] = [None] * samples
        if store is not None:
            keys = (store.key_for(row.id, digest, sample) for sample in range(samples))
            states = [store.state(key) for key in keys]
        pending = [s for s, ok in enumerate(states) if ok is None or (retry_failed and not ok)]
        request = bytes.fromhex(digest)
        if not pending or request in claimed:
            yield None
            continue
        claimed.add(request)
        yield PendingRow(row, digest, tuple(pending))


def first_run(samples: Sequence[int]) -> list[int]:
    """The consecutive numbers at the start of a sorted list."""
    return [s for i, s in enumerate(samples) if s == samples[0] + i]


def record(task: PendingRow, sample: int, ok: bool) -> dict[str, object]:
    """The beginning of the record of a sample, answered or failed."""
    key = key_of(task.digest, sample)
    return {"key": key, "ok": ok, "id": task.row.id, "digest": task.digest, "sample": sample}


def answer_records(
    task: PendingRow, run: Sequence[int], answer: Answer, tokens: tuple[int, int]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Numbers and records of the samples `run` of a row that an answer settles.

    Samples that are stored already are passed over. One without an answer (see `problem_of`) has
    failed; one that the server broke off has no record, and is asked again. The tokens of a request
    stand with the first of its records, so that sums are right; they are marked if the server did
    not count them.
    """
    nothing = itertools.repeat("")
    beside = (itertools.chain(texts, nothing) for texts in (answer.thoughts, answer.refusals))
    completions = zip(run, answer.texts, answer.finish, *beside, strict=False)
    for sample, text, finish, thoughts, refusal in completions:
        if sample not in task.samples or is_broken_off(finish):
            continue
        usage: dict[str, object] = {"in": tokens[0], "out": tokens[1]}
        if answer.tokens is None:
            usage["estimated"] = True
        tokens = (0, 0)
        said: dict[str, object] = {"completion": text, "finish": finish, "usage": usage}
        if thoughts.strip():
            said["thoughts"] = thoughts
        problem = problem_of(text, thoughts, finish, refusal)
        if problem:
            message = printable(problem[1], keep="")
            said = {"failure": str(problem[0]), "message": message} | said
        yield sample, record(task, sample, problem is None) | said
