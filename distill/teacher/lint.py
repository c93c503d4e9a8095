"""Checks a prompt: its exemplars parse to their labels, and no row of the test leaks in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from distill.common.overlap import overlap, plain_text
from distill.common.phrases import number_of
from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher import rehearsal
from distill.teacher.prompts import Prompt
from distill.teacher.results.filters import leaks


class LintReport(TypedDict):
    """What `lint_prompt` finds."""

    prompt: str
    exemplars: int
    rows_compared: int
    problems: list[str]
    warnings: list[str]


def lint_prompt(prompt: Prompt, rows: Sequence[Example] = ()) -> LintReport:
    """What is wrong with a prompt, and what may be.

    Args:
      prompt: the prompt.
      rows: rows that will be tested on; an exemplar equal to one, or that contains one or
        stands in one (case, spacing and punctuation aside), is a leak.

    Returns:
      `prompt`, `exemplars`, `rows_compared`, `problems` and `warnings` (texts).
    """
    problems: list[str] = []
    warnings: list[str] = []
    if not prompt.exemplars:
        warnings.append("there are no exemplars")
    for number, row in enumerate(prompt.exemplars, start=1):
        where = f"exemplar {number}"
        label, rationale = row.label or "", row.rationale or ""  # a prompt's have both
        following = prompt.exemplars[number % len(prompt.exemplars)]
        exemplar_text = prompt.answer(row)
        for kind, text in (
            ("its completion", exemplar_text),
            (
                "its completion and an invented next question",
                _run_on(prompt, exemplar_text, following),
            ),
        ):
            completion = prompt.parse_released(row, text)
            if (
                completion.failure
                or completion.label is None
                or not prompt.same(completion.label, label)
            ):
                problems.append(
                    f"{where}: {kind} parses to label {completion.label!r}, expected {row.label!r}"
                    + (f" ({completion.failure})" if completion.failure else "")
                )
                break
            if " ".join(rationale.split()) != completion.rationale:
                problems.append(
                    f"{where}: {kind} parses to rationale {completion.rationale!r}, expected "
                    f"{row.rationale!r}"
                )
                break
        if rationale.startswith(rehearsal.UNFILLED):
            warnings.append(f"{where}: the rationale is not written yet: {rationale!r}")
        elif prompt.parser in ("nli", "label") and leaks(rationale, label):
            warnings.append(f"{where}: the rationale contains the label {row.label!r}")
    shown_labels = {row.label for row in prompt.exemplars}
    for label in prompt.labels:
        if label not in shown_labels:
            warnings.append(f"no exemplar has the label {label!r}")
    if problem := gold_label_problem(prompt, rows):
        problems.append(problem)
    compared = 0
    same_rows: dict[int, list[str]] = {}
    exemplar_inputs = {
        plain_text(row.input): number for number, row in enumerate(prompt.exemplars, start=1)
    }
    for row in rows:
        compared += 1
        text = plain_text(row.input)
        for exemplar_text, number in exemplar_inputs.items():
            if overlap(text, exemplar_text):
                same_rows.setdefault(number, []).append(row.id)
    for number, ids in sorted(same_rows.items()):
        more = f" and {number_of(len(ids) - 1, 'other row')}" if len(ids) > 1 else ""
        problems.append(f"exemplar {number} is also row {ids[0]}{more} of the rows to annotate")
    return {
        "prompt": prompt.name,
        "exemplars": len(prompt.exemplars),
        "rows_compared": compared,
        "problems": problems,
        "warnings": warnings,
    }


def check_rows(prompt: Prompt, rows: Iterable[Example]) -> None:
    """Refuses, before anything is asked, rows that a prompt does not fit.

    Raises:
      UserError: a row that the prompt's `input` does not match; gold labels of which none is a
        label of the prompt.
    """
    if prompt.input_pattern:
        for row in rows:
            prompt.question(row)
    if problem := gold_label_problem(prompt, rows):
        raise UserError(problem)


def gold_label_problem(prompt: Prompt, rows: Iterable[Example]) -> str:
    """What is wrong if a prompt can read none of the rows' gold labels; "" if it can, or has none.

    Args:
      prompt: the prompt.
      rows: the rows to annotate.
    """
    gold: dict[str, None] = {}
    closed: dict[str, None] = {}
    for row in rows:
        labels = prompt.closed_set(row)
        if row.label is None or not labels:
            continue
        if any(prompt.same(label, row.label) for label in labels):
            return ""
        gold[row.label] = None
        closed |= dict.fromkeys(labels)
    if not gold:
        return ""
    return (
        f"no gold label of the rows ({_some(gold)}) is one of the labels that prompt "
        f"{prompt.name} reads ({_some(closed)}): name them alike, or remove `label` from the rows"
    )


def _some(labels: Iterable[str]) -> str:
    first = [repr(label[:40]) for label in labels]
    return ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")


def _run_on(prompt: Prompt, answer: str, following: Example) -> str:
    return f"{answer}\n\n{prompt.question(following)} {prompt.answer(following)}"
