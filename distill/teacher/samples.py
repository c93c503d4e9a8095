"""The samples of rows that are not stored yet, and the records of the answers to them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from distill.common.terminal import printable
from distill.data.examples import Example
from distill.teacher.answers.problems import problem_of
from distill.teacher.endpoint.outcomes import Answer, is_broken_off
from distill.teacher.sampling import Digests
from distill.teacher.storage.keys import key_of
from distill.teacher.storage.store import Store


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
            keys = (stored_key(store, digests, row, sample) for sample in range(samples))
            states = [store.state(key) for key in keys]
        pending = [s for s, ok in enumerate(states) if ok is None or (retry_failed and not ok)]
        request = bytes.fromhex(digest)
        if not pending or request in claimed:
            yield None
            continue
        claimed.add(request)
        yield PendingRow(row, digest, tuple(pending))


def stored_key(store: Store, digests: Digests, row: Example, sample: int) -> str:
    """The key under which a sample of a row is stored, or will be.

    An answer that was asked for with other stops, or another longest completion, is taken if it
    would have been the same: if it did not end at the longest completion, and if the stops that
    were sent are stops of the prompt or did not keep its label from being read. With
    `digests.any_ends` any such answer is taken.

    Args:
      store: holds the answers.
      digests: of what is asked now.
      row: the row.
      sample: its number.
    """
    own = store.key_for(row.id, digests.of(row), sample)
    if store.state(own):
        return own
    for other in digests.others(store.described):
        key = store.key_for(row.id, other.of(row), sample)
        if store.state(key) and (digests.any_ends or _is_same(store, key, digests, other, row)):
            return key
    return own


def _is_same(store: Store, key: str, digests: Digests, other: Digests, row: Example) -> bool:
    """Whether a stored answer would have ended in the same place; see `stored_key`."""
    answer = store.get(key) or {}
    if answer.get("finish") == "length" and other.longest != digests.longest:
        return False
    if set(other.stops) <= set(digests.prompt.stops):
        return True
    texts = (str(answer.get(name) or "") for name in ("completion", "thoughts"))
    return digests.prompt.read(row, *texts).said.label is not None


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
