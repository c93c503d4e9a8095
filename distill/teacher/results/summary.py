"""What `distill annotate` found, as text for people; all that a model or server said is escaped."""

from __future__ import annotations

import json
from typing import Literal, NotRequired, TypedDict, final

from distill.common.phrases import have, number_of
from distill.common.terminal import printable
from distill.teacher.batch_files import BatchFiles, BatchResults
from distill.teacher.job_stats import Spent
from distill.teacher.lint import LintReport
from distill.teacher.rehearsal import Rehearsed, describe
from distill.teacher.results.aggregate import TeacherAccuracy, WrittenRows


class Simulated(TypedDict):
    """Tickets that the simulated teacher annotated."""

    mode: Literal["simulated"]
    output: str
    rows: int
    teacher_accuracy: float


class Checked(LintReport):
    """A prompt that was checked."""

    mode: Literal["check"]


class BatchWritten(BatchFiles):
    """Requests that were written for a batch."""

    mode: Literal["batch_write"]


class DryRun(TypedDict):
    """What would be asked."""

    mode: Literal["dry_run"]
    first_prompt: str
    request: dict[str, object]
    rows: int
    rows_to_ask: int
    tokens_in: int
    tokens_out_at_most: int
    cost_at_most: float | None


class JobRows(WrittenRows):
    """A job's rows: what the store holds of them, and what was written.

    Attributes:
      model: the one that was requested.
      models: answers by the name of the model that gave them, as the server says it.
      thoughts: samples with thoughts, rows whose thoughts were cut to --reasoning_words, and rows
        without the thoughts that --rationale asks for.
      batch: of a run that read a batch's results.
    """

    mode: Literal["annotate"]
    output: str | None
    store: str
    rows: int
    answered: int
    failed: int
    pending: int
    failed_by_reason: dict[str, int]
    model: str
    models: dict[str, int]
    parsed: int
    cut_off: int
    thoughts: dict[str, int]
    parse_failures: dict[str, int]
    stored_tokens: dict[str, int]
    teacher: TeacherAccuracy | None
    batch: NotRequired[BatchResults]


@final
class Annotated(JobRows):
    """A run that asked nothing: it read the store again, or the results of a batch."""


@final
class Asked(JobRows, Spent):
    """A run that asked.

    Attributes:
      stopped: the flag that ended it before its rows did.
      batches: with --batch, the batches whose results were read.
    """

    stopped: str | None
    batches: NotRequired[int]


Result = Simulated | Rehearsed | Checked | BatchWritten | DryRun | Annotated | Asked


def text(result: Result) -> str:
    """The result for people."""
    if result["mode"] == "simulated":
        return (
            f"{result['output']}: {number_of(result['rows'], 'row')}, teacher correct on "
            f"{result['teacher_accuracy']:.1%}"
        )
    if result["mode"] == "rehearsal":
        return printable(describe(result))
    if result["mode"] == "check":
        lines = [f"warning: {printable(text)}" for text in result["warnings"]]
        compared = result["rows_compared"]
        rows = (
            f"compared with {number_of(compared, 'row')}" if compared else "compared with no rows"
        )
        return "\n".join(
            [
                *lines,
                f"prompt {result['prompt']}: "
                f"{number_of(result['exemplars'], 'valid exemplar')}, {rows}",
            ]
        )
    if result["mode"] == "batch_write":
        files = ", ".join(result["files"]) or "no file"
        return f"{number_of(result['requests'], 'request')} in {files}"
    if result["mode"] == "dry_run":
        cost = result["cost_at_most"]
        price = "no price known (--prices)" if cost is None else f"at most ${cost:.4f}"
        return (
            f"{printable(result['first_prompt'])}\n\nsent with "
            f"{json.dumps(result['request'])}\n{result['rows_to_ask']:,} of "
            f"{number_of(result['rows'], 'row')} to request: about {result['tokens_in']:,} tokens "
            f"in, at most {result['tokens_out_at_most']:,} out, {price}"
        )
    return _summary(result)


def _summary(result: Annotated | Asked) -> str:
    lines = [
        f"{result['output'] or result['store']}: {number_of(result['rows'], 'row')}, "
        f"{result['answered']:,} answered, {result['failed']:,} failed, "
        f"{result['pending']:,} pending"
    ]
    if result["failed"]:
        lines.append(
            f"failed: {_counts(result['failed_by_reason'])} (use --retry_failed to request them "
            "again)"
        )
    if {*result["models"]} - {result["model"], ""}:
        lines.append(f"answered by: {printable(_counts(result['models']), keep='')}")
    lines.append(
        f"labels parsed: {result['parsed']:,}; {_counts(result['parse_failures']) or 'all'}"
    )
    if result["cut_off"]:
        lines.append(f"truncated at --max_tokens: {number_of(result['cut_off'], 'sample')}")
    thoughts = result["thoughts"]
    if thoughts["samples"]:
        cut = f"; cut to --reasoning_words in {number_of(thoughts['cut'], 'row')}"
        cut = cut if thoughts["cut"] else ""
        lines.append(f"with thoughts: {number_of(thoughts['samples'], 'sample')}{cut}")
    if missing := thoughts["missing"]:
        lines.append(
            f"warning: {number_of(missing, 'answered row')} {have(missing)} no thoughts for "
            "--rationale: the model does not write any, or the server does not return them"
        )
    if result["output"]:
        lines.append(f"written: {number_of(result['written'], 'row')}")
    if result["dropped"]:
        lines.append(f"dropped: {_counts(result['dropped'])}, kept in {result['dropped_file']}")
    if "requests" in result:
        tokens = result["tokens"]
        cost = "" if result["cost"] is None else f", ${result['cost']:.4f}"
        batches = f" in {number_of(result['batches'], 'batch')}" if "batches" in result else ""
        lines.append(
            f"this run: {number_of(result['requests'], 'request')}{batches}, "
            f"{tokens['in']:,} tokens in, {tokens['out']:,} out{cost}, {result['seconds']:.1f} s"
        )
        if result["stopped"]:
            lines.append(f"stopped by --{result['stopped']}; the same command resumes the job")
    if "batch" in result:
        batch = result["batch"]
        lines.append(
            f"batch: {number_of(batch['stored'], 'sample')} stored, "
            f"{len(batch['failed']):,} failed (write another round with --batch_write), "
            f"{batch['unasked']:,} without a pending row"
        )
        lines += [
            f"  {printable(f['id'], '')}: {f['reason']} {f['message']}"
            for f in batch["failed"][:20]
        ]
    if result["teacher"]:
        teacher = result["teacher"]
        low, high = teacher["interval"]
        lines.append(
            f"teacher: {teacher['accuracy']:.3f} [{low:.3f}, {high:.3f}] on "
            f"{number_of(teacher['n'], 'row')} with gold labels"
        )
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
