"""Accuracies printed in the paper, to stand beside ours, marked as theirs."""

from __future__ import annotations

import dataclasses

from distill.report.blocks import Entry, Section, Table, Text
from distill.report.groups import METHOD, Groups
from distill.results.record import Record

SOURCE = (
    "Hsieh et al., Distilling Step-by-Step, Findings of ACL 2023, arXiv 2305.02301, Tables 1 and "
    "2: accuracy in percent of T5 base (220M), started from a public checkpoint"
)
DATASETS = {"esnli": "e-SNLI", "anli1": "ANLI", "cqa": "CQA", "svamp": "SVAMP"}


@dataclasses.dataclass(frozen=True)
class Printed:
    """A row of the paper's tables.

    Attributes:
      name: as the paper calls it.
      method: METHOD that does the same here.
      teacher: RAW_TEACHER of its rationales; "" for a method without a teacher.
      percent: accuracy on each of DATASETS, in their order.
    """

    name: str
    method: str
    teacher: str
    percent: tuple[float, float, float, float]


ROWS = (
    Printed("standard fine-tuning", "finetune", "", (88.38, 43.58, 62.19, 62.63)),
    Printed("single-task training, PaLM", "single_task", "palm", (88.88, 43.50, 61.37, 63.00)),
    Printed("step-by-step, GPT-NeoX 20B", "step_by_step", "gpt-neox", (89.12, 48.15, 63.25, 63.00)),
    Printed("step-by-step, PaLM 540B", "step_by_step", "palm", (89.51, 49.58, 63.29, 65.50)),
)


def section(groups: Groups) -> Section | None:
    """The printed numbers beside ours; None if no run is of a dataset of the paper."""
    records = [run.record for cell in groups.cells for run in cell.runs]
    known = [name for name in DATASETS if any(record.dataset == name for record in records)]
    if not known:
        return None
    rows: list[list[str | Entry]] = []
    for place, dataset in enumerate(DATASETS):
        if dataset not in known:
            continue
        for printed in ROWS:
            rows.append(
                [
                    DATASETS[dataset],
                    printed.name,
                    f"{printed.percent[place]:.2f}",
                    *_ours(groups, dataset, printed),
                ]
            )
    table = Table(
        "Accuracy in percent: printed in the paper, and here",
        ["dataset", "method of the paper", "theirs, printed", "ours, same METHOD", "our students"],
        rows,
        headings=2,
    )
    return Section(
        "paper",
        "Beside the paper's numbers",
        [
            Text(f"Their numbers are not measured here. Source: {SOURCE}."),
            Text(
                "Theirs are comparable with ours only where size, checkpoint, training rows and "
                "steps are the same; the last column says what ours are. The paper prints no "
                "intervals. It shows other results as plots alone; none are read from them.",
                "note",
            ),
            table,
        ],
    )


def _teacher(record: Record) -> str:
    """The teacher whose released rationales a run reads: RAW_TEACHER is palm unless it is set."""
    given = [text for text in record.overrides if text.startswith("RAW_TEACHER=")]
    is_both = any("palm" in text and "gpt-neox" in text for text in given)
    if is_both or any(name.endswith("two_teachers.gin") for name in record.gin_files):
        return "both"  # which the paper's tables do not have
    settings = [*record.overrides, *map(str, record.axes.values())]
    return "gpt-neox" if any("gpt-neox" in text for text in settings) else "palm"


def _ours(groups: Groups, dataset: str, printed: Printed) -> tuple[Entry, str]:
    """Our accuracies with the same METHOD and teacher, and what their students are."""
    method, teacher = printed.method, printed.teacher
    cells = [
        cell
        for cell in groups.cells
        if cell.mean is not None
        and all(r.record.dataset == dataset and r.record.method == method for r in cell.runs)
        and (not teacher or all(_teacher(r.record) == teacher for r in cell.runs))
    ]
    if not cells:
        return Entry("not run"), ""
    numbers, students = [], []
    for cell in cells:
        assert cell.mean is not None
        record, ends = cell.runs[0].record, cell.interval
        name = groups.name(cell.setting) if groups.axes else ""
        name = cell.method if groups.compared != METHOD else name
        interval = f" [{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]" if ends else ""
        numbers.append(f"{100 * cell.mean.mean:.2f}{interval}{f' ({name})' if name else ''}")
        size = "unknown size" if record.parameters is None else f"{record.parameters:,} parameters"
        students.append(f"{size}, {record.steps:,} steps")
    return Entry(numbers[0], numbers[1:]), "; ".join(dict.fromkeys(students))
