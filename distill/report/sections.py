"""The sections of a report, in their order: what is missing first, then results, then details."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from distill.common.phrases import are, have, number_of, shortened
from distill.report import beating, charts, cost, paper
from distill.report.blocks import Block, Browser, Entry, Figures, Items, Section, Table, Text
from distill.report.comparisons import LEVEL, Comparison, Comparisons
from distill.report.details import calibration_table, confusion_tables
from distill.report.groups import Groups, Planned, Setting, show
from distill.report.runs import Run
from distill.report.teachers import EXPLAINED, find_teachers
from distill.results.record import Record

_LONGEST = 2000  # characters of a message
_WORDS = {1: "▲ better", -1: "▼ worse", 0: ""}
_KINDS = {1: "better", -1: "worse", 0: ""}


@dataclasses.dataclass(frozen=True)
class Content:
    """All that a report is made of.

    Attributes:
      title: its heading.
      records: the last record of each run.
      runs: the finished ones.
      planned: the runs of the sweep files; None if they are not known.
      not_planned: why they are not.
      groups: the finished runs; None if there are none.
      comparisons: of the groups.
      latencies: what was measured.
    """

    title: str
    records: Sequence[Record]
    runs: Sequence[Run]
    planned: Sequence[Planned] | None
    not_planned: str
    groups: Groups | None
    comparisons: Comparisons | None
    latencies: cost.Latencies

    @property
    def failed(self) -> list[Record]:
        """Runs whose last attempt failed."""
        return [record for record in self.records if not record.is_done]

    @property
    def missing(self) -> list[Planned]:
        """Runs of the sweep files without a record."""
        known = {record.run for record in self.records}
        return [each for each in self.planned or () if each.run not in known]


def make_sections(content: Content) -> list[Section]:
    """The sections that apply."""
    sections = [_missing(content)]
    groups, comparisons = content.groups, content.comparisons
    if groups is None or comparisons is None:
        return sections
    sections.append(_results(groups, comparisons))
    if (printed := paper.section(groups)) is not None:
        sections.append(printed)
    if comparisons.against_first:
        sections.append(_comparisons(groups, comparisons))
    if (beaten := beating.section(groups)) is not None:
        sections.append(beaten)
    sections.append(_plotted("curves", "Accuracy", charts.accuracy(groups), _CURVES))
    sections.append(_plotted("training", "Training", charts.training(groups), _TRAINING))
    sections.append(cost.section(groups, content.latencies))
    if (table := calibration_table(groups)) is not None:
        figures = charts.calibration(groups)
        blocks: list[Block] = [Text(_CALIBRATION), table]
        numbers = _NUMBERS["calibration"]
        blocks.append(Figures(figures.plots, figures.omitted, "calibration", numbers))
        sections.append(Section("calibration", "Calibration", blocks))
    if tables := confusion_tables(groups):
        sections.append(Section("confusion", "Confusion of labels", tables))
    if any(run.answers is not None for run in content.runs):
        sections.append(Section("predictions", "Predictions", [Browser()]))
    sections.append(_provenance(content))
    return [section for section in sections if section.blocks]


_CURVES = (
    "Mean test accuracy over seeds; bars are 95% t intervals (Wilson intervals of the test rows "
    "where there is one seed). The dashed line is the teacher's accuracy; its name says "
    "on which rows."
)
_TRAINING = "Means over seeds; the band reaches from the lowest to the highest seed."
_CALIBRATION = (
    "The probability is that of the most probable label, given that the answer is in the closed "
    "set; seeds are pooled. ECE is the mean distance of probability and accuracy over 10 bins. "
    "Risk is the share of wrong answers among those with the highest probability; the area under "
    "it is the mean over all coverages. Lower is better for both."
)


_NUMBERS = {  # where those of the plots are
    "curves": "the table of results has their numbers",
    "training": "no table has their numbers, which are in metrics.jsonl of each run",
    "calibration": "the table has their ECE and area under risk, but no table has their curves",
}


def _plotted(name: str, title: str, found: charts.Charts, text: str) -> Section:
    if not found.plots:
        return Section(name, title, [])
    figures = Figures(found.plots, found.omitted, name, _NUMBERS[name])
    return Section(name, title, [Text(text), figures])


def _missing(content: Content) -> Section:
    failed, missing = content.failed, content.missing
    done = len(content.records) - len(failed)
    blocks: list[Block] = []
    if failed or missing:
        rest = "" if content.planned is None else f", {len(missing):,} missing"
        counts = f"{number_of(done, 'run')} finished, {len(failed):,} failed{rest}."
        blocks.append(Text(counts, "warning"))
    else:
        rest = "none failed" if content.planned is None else "none failed or missing"
        blocks.append(Text(f"{number_of(done, 'run')} finished, {rest}."))
    if content.planned is None:
        reason = shortened(content.not_planned, _LONGEST)
        blocks.append(Text(f"Runs that have not ended are not known: {reason}.", "note"))
    if failed:
        rows = [
            [r.run, str(r.seed), str(r.attempt), shortened(r.error or "", _LONGEST), r.folder]
            for r in failed
        ]
        header = ["run", "seed", "attempts", "message", "folder"]
        blocks.append(Table("Runs that failed", header, rows))
    if missing:
        rows = [[each.run, each.sweep, str(each.seed), _axes(each)] for each in missing]
        header = ["run", "sweep", "seed", "axes"]
        blocks.append(Table("Runs of the sweep files without a result", header, rows))
    problems = [f"{run.record.run}: {text}" for run in content.runs for text in run.problems]
    if content.groups is not None:
        problems += [
            f"{record.run}: another run has the same axes and the same seed; this one is left out"
            for record in content.groups.repeated
        ]
        problems += [
            f"{run.record.run}: without an accuracy, as it has no test rows with gold labels"
            for run in content.runs
            if run.record.accuracy is None
        ]
    if problems:
        blocks.append(Text("Not all of these runs' files could be used:", "warning"))
        blocks.append(Items([shortened(text, _LONGEST) for text in problems], "warning"))
    return Section("missing", "Failed and missing", blocks)


def _axes(planned: Planned) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in planned.axes.items())


def _results(groups: Groups, comparisons: Comparisons) -> Section:
    blocks: list[Block] = []
    if groups.constant:
        pairs = ", ".join(f"{name} {show(value)}" for name, value in groups.constant.items())
        blocks.append(Text(f"The same in all runs: {pairs}."))
    blocks.append(Text(_verdict(groups, comparisons)))
    cells = [cell for cell in groups.cells if cell.mean is not None]
    if not cells:
        return Section("results", "Results", [*blocks, Text("No run has a test accuracy.")])
    teacher = bool(find_teachers(groups.cells))
    rows: list[list[str | Entry]] = []
    for setting in groups.settings:
        row: list[str | Entry] = [show(value) for value in setting] or ["all runs"]
        row += [_accuracy(groups, comparisons, method, setting) for method in groups.methods]
        if teacher:
            row.append(_teacher(groups, setting))
        rows.append(row)
    header = [*(groups.axes or ["runs"]), *groups.methods, *(["teacher"] if teacher else [])]
    caption = f"Test accuracy: mean over seeds, 95% interval, number of seeds, by {groups.compared}"
    blocks.append(Table(caption, header, rows, headings=max(1, len(groups.axes))))
    blocks.append(
        Text(
            "Intervals are t intervals over seeds; with one seed, they are Wilson intervals of its "
            f"test rows. ▲ and ▼: significantly better or worse than {groups.methods[0]}. "
            "Bold and best: significantly better than every other method of its row.",
            "note",
        )
    )
    if teacher:
        blocks.append(Text(EXPLAINED, "note"))
    return Section("results", "Results", blocks)


def _verdict(groups: Groups, comparisons: Comparisons) -> str:
    """What the comparisons with the first method come to, in words."""
    found = [each for each in comparisons.against_first.values() if each.test is not None]
    untested = len(comparisons.against_first) - len(found)
    first = groups.methods[0]
    if not comparisons.against_first:
        return f"Nothing is compared: no setting has another method beside {first}."
    better = sum(each.mark > 0 for each in found)
    worse = sum(each.mark < 0 for each in found)
    text = (
        f"Of {number_of(len(found), 'comparison')} with {first}, {better:,} {are(better)} "
        f"significantly better, {worse:,} {are(worse)} significantly worse and "
        f"{len(found) - better - worse:,} {have(len(found) - better - worse, 'shows', 'show')} no "
        f"significant difference (p < {LEVEL:g} after Holm's correction for "
        f"{number_of(comparisons.number, 'comparison')})."
    )
    if untested:
        text += f" {number_of(untested, 'comparison')} could not be tested; the table says why."
    return text


def _accuracy(
    groups: Groups, comparisons: Comparisons, method: str, setting: Setting
) -> str | Entry:
    cell = groups.by_place.get((method, setting))
    if cell is None or cell.mean is None:
        return ""
    mark, ends = comparisons.mark(setting, method), cell.interval
    best = comparisons.best.get(setting) == method
    details = [f"[{ends[0]:.3f}, {ends[1]:.3f}]"] if ends else []
    details.append(number_of(cell.mean.n, "seed"))
    if words := ", ".join(filter(None, (_WORDS[mark], "best" if best else ""))):
        details.append(words)
    return Entry(f"{cell.mean.mean:.3f}", details, best, _KINDS[mark])


def _teacher(groups: Groups, setting: Setting) -> str | Entry:
    found = find_teachers(groups.cells_of(setting))
    if len(found) == 1:
        return Entry(f"{found[0].accuracy:.3f}", [found[0].where])
    return "; ".join(teacher.name for teacher in found)


def _comparisons(groups: Groups, comparisons: Comparisons) -> Section:
    first = groups.methods[0]
    rows = [
        [*([show(value) for value in setting] or ["all runs"]), method, *_tested(each)]
        for (setting, method), each in comparisons.against_first.items()
    ]
    header = [
        *(groups.axes or ["runs"]),
        groups.compared,
        "difference",
        "p",
        "corrected p",
        "bootstrap",
        "McNemar p, by seed",
        "seeds",
        "test rows",
    ]
    table = Table(
        f"Difference of accuracy from {first}, on the same test rows",
        header,
        rows,
        headings=max(1, len(groups.axes)) + 1,
        folded=len(rows) > 30,
    )
    text = (
        f"Each method against {first} on the seeds and test rows that both have. The difference "
        "has a 95% interval, and p is that of a t test; both take seeds and test rows as random. "
        "The corrected p-value decides. The bootstrap interval is drawn over seeds and rows; with "
        "few seeds it is too narrow. McNemar's exact test compares the two students of one seed: "
        "it says nothing about other seeds."
    )
    return Section("comparisons", "Comparisons", [Text(text), table])


def _tested(each: Comparison) -> list[str | Entry]:
    mcnemar = ", ".join(map(_p, each.mcnemar))
    seeds, rows = str(len(each.seeds)), f"{each.rows:,}{'' if each.shared else ' in all'}"
    if each.test is None:
        return [Entry("not tested", [each.note]), "", "", "", mcnemar, seeds, rows]
    test, kind = each.test, _KINDS[each.mark]
    details = [f"[{test.low:+.3f}, {test.high:+.3f}]"]
    details += [
        text for text in (_WORDS[each.mark], each.note and f"left out: {each.note}") if text
    ]
    ends = each.bootstrap
    return [
        Entry(f"{test.mean:+.3f}", details, kind=kind),
        _p(test.p),
        "" if each.adjusted is None else Entry(_p(each.adjusted), strong=each.mark != 0),
        f"[{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else "",
        mcnemar,
        seeds,
        rows,
    ]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _provenance(content: Content) -> Section:
    """Where the numbers come from."""
    records = content.records
    versions = sorted({f"{k} {v}" for r in records for k, v in r.versions.items()})
    commits = sorted({record.git_commit or "no checkout" for record in records})
    seconds = sum(record.seconds for record in records)
    rows: list[list[str | Entry]] = [
        ["runs", f"{len(records):,}"],
        ["sweeps", ", ".join(dict.fromkeys(record.sweep for record in records))],
        ["first start", min(record.started for record in records)],
        ["last end", max(record.ended for record in records)],
        ["time of the last attempts", f"{seconds:,.0f} s"],
        ["hosts", ", ".join(sorted({record.host for record in records}))],
        ["commits", ", ".join(commits)],
        ["versions", ", ".join(versions)],
    ]
    return Section(
        "provenance", "Where the numbers come from", [Table("Runs", ["what", "value"], rows)]
    )
