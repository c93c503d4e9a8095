"""What a user is told of their data: one line, and a warning for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from distill.config.data import DataSpec
from distill.data.cache_meta import CacheMeta, Survey
from distill.data.sequence_counts import SequenceCounts

WARN_FROM = 0.01  # share of rows or of tokens; more than this is a warning
_BYTES_FIX = "VOCABULARY = 'bytes' with VOCAB_SIZE = 264 writes every text"


class DataSummary(Survey):
    """The numbers behind the line, as run.json holds them: see `summarize_data`."""

    rows: dict[str, int]
    pool: int
    dropped: dict[str, int]
    outside_budget: int
    unscored: int
    sequences: dict[str, dict[str, int]]


def summarize_data(spec: DataSpec, meta: CacheMeta) -> DataSummary:
    """The numbers behind the line, as run.json holds them.

    Args:
      spec: the run's data.
      meta: of its token cache.

    Returns:
      rows (by split), pool (rows before any were dropped), dropped (training rows, by reason),
      outside_budget (training rows that NUM_LABELS leaves out), unscored (test rows without a
      gold label), sequences (`SequenceCounts` of inputs and of each kind of target, before they
      were cut), and those of `RowSurvey.counts`.
    """
    counts, tasks = meta["counts"], meta["tasks"]
    used = counts["dropped"] + counts["train"] + counts["validation"]
    inputs = dict(tasks["label"]["inputs"])
    inputs["longest"] = max(task["inputs"]["longest"] for task in tasks.values())
    kinds = {"label": "label" if spec.method != "single_task" else "target"}
    targets = {kinds.get(name, name): dict(task["targets"]) for name, task in tasks.items()}
    return {
        "rows": dict(meta["rows"]),
        "pool": counts["rows"],
        "dropped": dict(counts["reasons"]),
        "outside_budget": counts["rows"] - used,
        "unscored": meta["unscored"],
        "sequences": {"input": inputs, **targets},
        **meta["survey"],
    }


def data_lines(spec: DataSpec, summary: DataSummary) -> list[str]:
    """The line that is shown before training, and after it the warnings.

    Args:
      spec: the run's data.
      summary: of `summarize_data`.
    """
    rows, pool, dropped = summary["rows"], summary["pool"], sum(summary["dropped"].values())
    chosen = rows["train"] + rows["validation"]
    sequences = {name: SequenceCounts(**c) for name, c in summary["sequences"].items()}
    parts = [
        f"data: {rows['train']:,} training rows, {rows['validation']:,} for validation, "
        f"{rows['test']:,} for the test"
    ]
    if dropped:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in summary["dropped"].items())
        parts.append(f"{dropped:,} of {pool:,} dropped ({reasons})")
    else:
        parts.append("none dropped")
    if summary["outside_budget"]:
        parts.append(f"{summary['outside_budget']:,} not in NUM_LABELS")
    if summary["unscored"]:
        parts.append(f"{summary['unscored']:,} without a gold label not tested")
    needs_rationales = spec.method in ("step_by_step", "single_task")
    if needs_rationales:
        parts.append(f"{summary['without_rationale']:,} without a rationale")
    lines = ["; ".join([*parts, *_token_parts(spec, sequences)])]
    if dropped > WARN_FROM * pool:
        lines.append(
            f"warning: {_share(dropped, pool)} training rows have no label that LABEL_SOURCE = "
            f"{spec.label_source!r} can use and are left out: {reasons}"
        )
    missing = summary["without_rationale"]
    if needs_rationales and missing > WARN_FROM * chosen:
        lines.append(
            f"warning: {_share(missing, chosen)} training rows have no rationale: METHOD = "
            f"{spec.method!r} trains on their label alone"
        )
    lines += _token_warnings(spec, sequences)
    return lines + _row_warnings(summary, chosen)


def input_lines(
    spec: DataSpec,
    counts: SequenceCounts,
    without_label: int | None = None,
    missing_choices: int = 0,
) -> list[str]:
    """The line of rows that a student answers, and its warnings.

    Args:
      spec: what the student was trained with.
      counts: of the rows' inputs.
      without_label: rows that are not scored for lack of a label; None where nothing is scored.
      missing_choices: rows without the choices that the student's inputs list.
    """
    parts = [f"data: {counts.sequences:,} {'row' if counts.sequences == 1 else 'rows'} answered"]
    if without_label is not None:
        parts.append(f"{without_label:,} without a label not scored")
    sequences = {"input": counts}
    lines = ["; ".join([*parts, *_token_parts(spec, sequences)])]
    lines += _token_warnings(spec, sequences, trained=True)
    if missing_choices:
        lines.append(
            f"warning: {_share(missing_choices, counts.sequences)} rows have no `choices`, which "
            "every input had that this student was trained on: give them in the rows"
        )
    return lines


def _token_parts(spec: DataSpec, sequences: Mapping[str, SequenceCounts]) -> Iterable[str]:
    """Sequences that were cut, and shares of unknown tokens."""
    inputs = sequences["input"]
    yield f"inputs cut: {_cut(inputs, 'INPUT_LENGTH')}"
    if targets := [s for name, s in sequences.items() if name != "input"]:
        total = SequenceCounts(
            sum(s.sequences for s in targets),
            sum(s.cut for s in targets),
            max(s.longest for s in targets),
        )
        yield f"targets cut: {_cut(total, 'TARGET_LENGTH')}"
    if spec.vocabulary != "bytes":
        shares = (f"{s.unknown / s.tokens:.1%} of {n}s" for n, s in sequences.items() if s.unknown)
        yield f"unknown tokens: {', '.join(shares) or 'none'}"


def _token_warnings(
    spec: DataSpec, sequences: Mapping[str, SequenceCounts], trained: bool = False
) -> list[str]:
    """What was cut or is unknown in more than WARN_FROM; no macro helps a student that is
    trained already."""
    lines = []
    for name, counts in sequences.items():
        macro = "INPUT_LENGTH" if name == "input" else "TARGET_LENGTH"
        limit = spec.input_length if name == "input" else spec.target_length
        if counts.cut > WARN_FROM * counts.sequences:
            text = f"warning: {_share(counts.cut, counts.sequences)} {name}s are longer than "
            text += f"{macro} = {limit} and are cut"
            if name == "target":
                text += ", which loses their label at the end"
            text += f"; {macro} = {counts.longest} would hold all"
            lines.append(text + (" (a new training run)" if trained else ""))
        if counts.unknown > WARN_FROM * counts.tokens:
            text = (
                f"warning: {counts.unknown / counts.tokens:.1%} of {name} tokens are unknown to "
                f"VOCABULARY = {spec.vocabulary!r} and are read as one and the same"
            )
            lines.append(f"{text}; {_BYTES_FIX}" + (" (a new training run)" if trained else ""))
    return lines


def _row_warnings(summary: DataSummary, chosen: int) -> list[str]:
    lines, test = [], summary["rows"]["test"]
    if summary["unscored"] > WARN_FROM * (test + summary["unscored"]):
        lines.append(
            f"warning: {_share(summary['unscored'], test + summary['unscored'])} test rows have no "
            "gold label and are not scored"
        )
    seen = summary["test_inputs_in_training"]
    if seen > WARN_FROM * test:
        lines.append(
            f"warning: {_share(seen, test)} test inputs also occur among the training rows: the "
            "test accuracy says less about new rows"
        )
    if summary["classes"] == 1 and chosen > 1:
        lines.append(f"warning: all {chosen:,} training rows have the same label")
    contradicting = summary["contradicting_rows"]
    if contradicting > WARN_FROM * chosen:
        lines.append(
            f"warning: {_share(contradicting, chosen)} training rows have an input that occurs "
            "with another label too"
        )
    return lines


def _cut(counts: SequenceCounts, macro: str) -> str:
    if not counts.cut:
        return "none"
    share = f"{counts.cut:,} ({counts.cut / counts.sequences:.1%})"
    return f"{share}, {macro} = {counts.longest} holds all"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})"
