"""What the results of the demo say, in sentences."""

from __future__ import annotations

import statistics

from distill.report.groups import Cell, Groups

STEP_BY_STEP, RIVALS = "step_by_step", ("finetune, stronger", "finetune")


def has_noisy_teacher(cell: Cell) -> bool:
    """Whether the students learn from the simulated teacher that errs."""
    return cell.runs[0].record.axes.get("teacher") == "noisy"


def findings(groups: Groups, latency_ms: float) -> list[str]:
    """What the numbers say, whichever way they fall.

    Args:
      groups: runs with a test accuracy.
      latency_ms: time in which a student answers.
    """
    sentences = []
    for setting in groups.settings:
        means = {c.method: c.mean.mean for c in groups.cells_of(setting) if c.mean is not None}
        rivals = [name for name in RIVALS if name in means]
        if STEP_BY_STEP in means and rivals:
            best, found = max(rivals, key=means.__getitem__), means[STEP_BY_STEP]
            record = groups.by_place[STEP_BY_STEP, setting].runs[0].record
            name = groups.name(setting) if groups.axes else f"labels {record.labels or 0:,}"
            sentences.append(
                f"{name}: step_by_step {found:.3f}, best fine-tuning ({best}) "
                f"{means[best]:.3f}: {100 * (found - means[best]):+.1f} points."
            )
    sentences += [_of_noisy(c) for c in groups.cells if has_noisy_teacher(c)]
    return [
        *filter(None, sentences),
        f"Labeling one ticket takes {latency_ms:.1f} ms, because only the label is decoded.",
        "The tickets and rationales are generated and noiseless except for the teacher's errors. "
        "The gain is data efficiency: it shrinks as labels become plentiful.",
    ]


def _of_noisy(cell: Cell) -> str:
    """How step_by_step compares with the noisy teacher; "" for other methods."""
    records = [run.record for run in cell.runs]
    known = [r.teacher_accuracy for r in records if r.teacher_accuracy is not None]
    lows = [record.interval[0] for record in records if record.interval is not None]
    if cell.method != STEP_BY_STEP or not known or not lows:
        return ""
    teacher = statistics.fmean(known)
    verdict = "every seed is" if min(lows) > teacher else "not every seed is"
    return (
        f"The noisy teacher is correct on {teacher:.1%} of its tickets. Wilson lower bounds of the "
        f"student that learns from it: {', '.join(f'{low:.3f}' for low in lows)}; {verdict} above "
        "the teacher."
    )
