"""What `distill annotate` found, as text for people; all that a model or server said is escaped."""

from __future__ import annotations

import json
from typing import Any

from distill.common.terminal import printable


def text(result: dict[str, Any]) -> str:
    """The result for people."""
    mode = result["mode"]
    if mode == "simulated":
        return (
            f"{result['output']}: {result['rows']} rows, teacher right on "
            f"{result['teacher_accuracy']:.1%}"
        )
    if mode == "check":
        lines = [f"warning: {printable(text)}" for text in result["warnings"]]
        compared = result["rows_compared"]
        rows = f"compared with {compared:,} rows" if compared else "not compared with any rows"
        return "\n".join(
            [*lines, f"prompt {result['prompt']}: {result['exemplars']} exemplars good, {rows}"]
        )
    if mode == "batch_write":
        return f"{result['requests']:,} requests in {', '.join(result['files']) or 'no file'}"
    if mode == "dry_run":
        cost = result["cost_at_most"]
        price = "no price known (--prices)" if cost is None else f"at most ${cost:.4f}"
        return (
            f"{printable(result['first_prompt'])}\n\nsent with {json.dumps(result['request'])}\n"
            f"{result['rows_to_ask']:,} of {result['rows']:,} rows to ask: about "
            f"{result['tokens_in']:,} tokens in, at most "
            f"{result['tokens_out_at_most']:,} out, {price}"
        )
    return _summary(result)


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['output'] or result['store']}: {result['rows']:,} rows, {result['answered']:,} "
        f"answered, {result['failed']:,} failed, {result['pending']:,} not asked"
    ]
    if result["failed"]:
        lines.append(
            f"failed: {_counts(result['failed_by_reason'])} (--retry_failed asks for them again)"
        )
    lines.append(f"labels read: {result['parsed']:,}; {_counts(result['parse_failures']) or 'all'}")
    if result["cut_off"]:
        lines.append(f"cut off at the longest length (--max_tokens): {result['cut_off']:,} samples")
    if result["output"]:
        lines.append(f"written: {result['written']:,} rows")
    if result["dropped"]:
        lines.append(f"dropped: {_counts(result['dropped'])}, kept in {result['dropped_file']}")
    if "requests" in result:
        tokens = result["tokens"]
        cost = "" if result["cost"] is None else f", ${result['cost']:.4f}"
        lines.append(
            f"this run: {result['requests']:,} requests, {tokens['in']:,} tokens in, "
            f"{tokens['out']:,} out{cost}, {result['seconds']:.1f} s"
        )
    if result.get("stopped"):
        lines.append(f"stopped by --{result['stopped']}; the same command resumes the job")
    if "batch" in result:
        batch = result["batch"]
        lines.append(
            f"batch: {batch['stored']:,} samples stored, {len(batch['failed']):,} failed (write "
            f"another round with --batch_write), {batch['unasked']:,} of no open row"
        )
        lines += [
            f"  {printable(f['id'], '')}: {f['reason']} {f['message']}"
            for f in batch["failed"][:20]
        ]
    if result["teacher"]:
        teacher = result["teacher"]
        low, high = teacher["interval"]
        lines.append(
            f"teacher: {teacher['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {teacher['n']:,} rows "
            "with gold labels"
        )
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
