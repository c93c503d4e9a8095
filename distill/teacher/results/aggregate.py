"""From stored answers to annotated rows: parse, vote, filter, write.

Everything here reads the store; nothing asks. Run again with another prompt file (its
parser, labels or stops), other filters or another number of samples as often as you like.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

from etils import epath

from distill.common.accuracy import wilson_interval
from distill.common.atomic import write_text
from distill.data.examples import Example, write_jsonl
from distill.data.released.completions import Completion
from distill.teacher.answers.problems import failure_of
from distill.teacher.answers.thoughts import has_thoughts
from distill.teacher.prices import Price
from distill.teacher.prompts import Prompt, ReadAnswer
from distill.teacher.results.consistency import Verdict, vote
from distill.teacher.results.filters import Filters
from distill.teacher.samples import stored_key
from distill.teacher.sampling import Digests
from distill.teacher.storage.store import Store


@dataclasses.dataclass(frozen=True)
class AggregatedRow:
    """A row with what its samples say.

    Attributes:
      readings: the row with teacher label, rationale and failure, and the raw completion they
        are of (up to a stop; "" if no sample was answered). The first is the row's own; the
        others have the same label and another rationale.
      agreement: share of the samples with the label.
    """

    readings: tuple[tuple[Example, str], ...]
    agreement: float

    @property
    def row(self) -> Example:
        """The row as its own reading has it."""
        return self.readings[0][0]


@dataclasses.dataclass
class Totals:
    """Sums over the rows that ended."""

    rows: int = 0
    pending: int = 0
    answered: int = 0
    parsed: int = 0
    cut_off: int = 0  # samples that ended at the longest length
    with_thoughts: int = 0  # samples with thoughts
    cut_reasoning: int = 0  # rows whose thoughts were cut to --reasoning_words
    lack_reasoning: int = 0  # answered rows without the thoughts that --rationale asks for
    failed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    models: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    tokens_in: int = 0
    tokens_out: int = 0
    batch_tokens: tuple[int, int] = (0, 0)  # those in and out that batches took
    with_gold: int = 0
    correct: int = 0
    first_completion: str = ""  # of the first row that was answered


def aggregate(
    rows: Sequence[Example],
    prompt: Prompt,
    digests: Digests,
    samples: int,
    store: Store,
    totals: Totals,
) -> Iterator[AggregatedRow]:
    """The rows of which every sample is stored, in their order; `totals` is added to.

    A sample that failed counts as one without a label; a row none of whose samples was
    answered has failure `no_completion`, and its request's reason in `totals.failed`.
    """
    counted: set[int] = set()  # what rows with the same request share is paid for once
    for row in rows:
        totals.rows += 1
        keys = [stored_key(store, digests, row, sample) for sample in range(samples)]
        stored = [store.get(key) for key in keys]
        records = [record for record in stored if record is not None]
        if len(records) < samples:
            totals.pending += 1
            continue
        answers = [read_record(prompt, row, record) for record in records]
        completions = [answer.said for answer in answers]
        verdict = vote(completions, prompt.same)
        answered = any(record["ok"] for record in records)
        request = int(records[0]["key"][:15], 16)
        for record in records:
            usage = record.get("usage") or {}
            if request not in counted:
                tokens_in, tokens_out = usage.get("in", 0), usage.get("out", 0)
                totals.tokens_in += tokens_in
                totals.tokens_out += tokens_out
                if record.get("batch"):
                    read, written = totals.batch_tokens
                    totals.batch_tokens = (read + tokens_in, written + tokens_out)
            if record["ok"]:
                totals.models[str(record.get("model") or "")] += 1
            totals.cut_off += record.get("finish") == "length"
            totals.with_thoughts += has_thoughts(record)
        counted.add(request)
        if answered and not totals.answered:
            totals.first_completion = next(str(r["completion"]) for r in records if r["ok"])
        totals.answered += answered
        totals.parsed += verdict.label is not None
        if not answered:
            totals.failed[records[0]["failure"]] += 1
        if verdict.failure:
            totals.failures[str(verdict.failure)] += 1
        if row.label is not None:
            totals.with_gold += 1
            totals.correct += verdict.label is not None and prompt.same(verdict.label, row.label)
        totals.cut_reasoning += answers[verdict.chosen].is_cut
        if answered and prompt.reading.rationale != "answer":
            totals.lack_reasoning += not has_thoughts(records[verdict.chosen])
        yield AggregatedRow(tuple(_readings(row, answers, verdict)), verdict.agreement)


def _readings(
    row: Example, answers: Sequence[ReadAnswer], verdict: Verdict
) -> Iterator[tuple[Example, str]]:
    """The row as each sample of another rationale reads it, the chosen one first."""
    for number in dict.fromkeys((verdict.chosen, *verdict.samples)):
        said = answers[number].said
        reading = dataclasses.replace(
            row,
            teacher_label=said.label,
            rationale=said.rationale,
            more_rationales=(),
            failure=said.failure or (None if verdict.label else verdict.failure),
        )
        yield reading, answers[number].text


def read_record(prompt: Prompt, row: Example, record: Mapping[str, Any]) -> ReadAnswer:
    """What the stored record of a sample of a row says."""
    if not record["ok"]:
        return ReadAnswer(Completion(None, None, failure_of(str(record["failure"]))), "", False)
    return prompt.read(row, str(record["completion"]), str(record.get("thoughts") or ""))


def parse_record(prompt: Prompt, row: Example, record: Mapping[str, Any]) -> Completion:
    """Label, rationale and failure of the stored record of a sample of a row."""
    return read_record(prompt, row, record).said


def thoughts_of(totals: Totals) -> dict[str, int]:
    """Samples with thoughts, and answered rows whose thoughts were cut or are missing."""
    return {
        "samples": totals.with_thoughts,
        "cut": totals.cut_reasoning,
        "missing": totals.lack_reasoning,
    }


class WrittenRows(TypedDict):
    """What `write_annotated` gives."""

    written: int
    dropped: dict[str, int]
    dropped_file: str | None


class TeacherAccuracy(TypedDict):
    """What `teacher_row` gives."""

    accuracy: float
    interval: list[float]
    n: int
    parsed: float
    cost_per_row: float | None


def dropped_path(output: epath.PathLike) -> epath.Path:
    """Where the dropped rows of an output go."""
    path = epath.Path(output)
    return path.parent / f"{path.stem}.dropped.jsonl"


def write_annotated(
    path: epath.PathLike,
    aggregated: Iterator[AggregatedRow],
    filters: Filters,
    same: Callable[[str, str], bool],
    rationales: int = 1,
    on_kept: Callable[[Example, str], None] | None = None,
) -> WrittenRows:
    """Writes the rows that are kept as JSONL, and those that are dropped beside them.

    A row is kept if any of its readings passes the filters; the first that does is written.

    Args:
      path: the file of training rows. `<stem>.dropped.jsonl` gets the others, with the
        reason and the agreement; no such file is left where none is dropped.
      aggregated: the rows.
      filters: what is dropped.
      same: whether two labels are one.
      rationales: different agreeing rationales a row that pass; each further one is a row of
        its own, id `<id>#1`, `<id>#2`, ...
      on_kept: called with every row that is kept, and its raw completion.

    Returns:
      `written`, `dropped` (rows by reason) and `dropped_file` (or None).
    """
    path = epath.Path(path)
    dropped_file = dropped_path(path)
    left_out: list[dict[str, object]] = []
    counts: collections.Counter[str] = collections.Counter()

    def kept() -> Iterator[Example]:
        for entry in aggregated:
            passing = filters.passing(entry.readings, entry.agreement, same)
            if not passing:
                reason = filters.why_not(entry.row, entry.agreement, same)
                counts[str(reason)] += 1
                annotation = {"dropped": str(reason), "agreement": round(entry.agreement, 4)}
                left_out.append(entry.row.to_dict() | annotation)
                continue
            if on_kept:
                on_kept(*passing[0])
            for number, (row, _) in enumerate(passing[:rationales]):
                counts["written"] += 1
                yield dataclasses.replace(row, id=f"{row.id}#{number}") if number else row

    write_jsonl(path, kept())
    if left_out:
        write_text(dropped_file, "".join(json.dumps(fields) + "\n" for fields in left_out))
    elif dropped_file.exists():
        dropped_file.unlink()
    written = counts.pop("written", 0)
    return {
        "written": written,
        "dropped": dict(sorted(counts.items())),
        "dropped_file": str(dropped_file) if left_out else None,
    }


def teacher_row(totals: Totals, price: Price | None) -> TeacherAccuracy | None:
    """The teacher's own few-shot accuracy: `accuracy`, `interval` (95%, Wilson), `n`, `parsed`
    and USD a row (`cost_per_row`, None without a price), over the rows with a gold label that
    ended; a row without a teacher label is wrong. None where no row has a gold label.
    """
    if not totals.with_gold:
        return None
    ended = totals.rows - totals.pending
    cost = None
    if price:
        read, written = totals.batch_tokens
        alone = price.of(totals.tokens_in - read, totals.tokens_out - written)
        cost = (alone + price.batched().of(read, written)) / ended
    return {
        "accuracy": totals.correct / totals.with_gold,
        "interval": list(wilson_interval(totals.correct, totals.with_gold)),
        "n": totals.with_gold,
        "parsed": totals.parsed / ended,
        "cost_per_row": cost,
    }
