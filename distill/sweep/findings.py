"""What the results of a sweep say, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from distill.sweep.results import Group


def findings(groups: Sequence[Group], teacher: float | None, latency_ms: float) -> list[str]:
    """What the numbers say, whichever way they fall.

    Args:
      groups: rows of the table.
      teacher: accuracy of the noisy teacher; None where no student learns from it.
      latency_ms: time in which a student answers.
    """
    by_key = {(g.name, g.policy, g.labels): g for g in groups}
    sentences = []
    for (name, policy, labels), step_by_step in by_key.items():
        if name != "step_by_step":
            continue
        rivals = [by_key.get((n, policy, labels)) for n in ("finetune, stronger", "finetune")]
        best = max((g for g in rivals if g), key=lambda g: g.mean)
        sentences.append(
            f"{policy}, {labels} labels: step_by_step {step_by_step.mean:.3f}, best fine-tuning "
            f"({best.name}) {best.mean:.3f}: {100 * (step_by_step.mean - best.mean):+.1f} points."
        )
    noisy = next((g for g in groups if g.name == "step_by_step, noisy teacher"), None)
    if noisy and teacher is not None:
        lows = [low for low, _ in noisy.intervals]
        bounds = ", ".join(f"{low:.3f}" for low in lows)
        verdict = (
            "every seed is above the teacher"
            if min(lows) > teacher
            else "not every seed is above the teacher"
        )
        sentences.append(
            f"The noisy teacher is correct on {teacher:.1%} of its tickets. Wilson lower bounds of "
            f"the student that learns from it: {bounds}; {verdict}."
        )
    sentences.append(
        f"Labeling one ticket takes {latency_ms:.1f} ms, because only the label is decoded."
    )
    sentences.append(
        "The tickets and rationales are generated and noiseless except for the teacher's errors. "
        "The gain is data efficiency: it shrinks as labels become plentiful."
    )
    return sentences
