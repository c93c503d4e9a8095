"""What a user is told of their data: one line, and a warning for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NotRequired

from distill.common.phrases import WARN_FROM, are, have, number_of, share, with_counts
from distill.config.data import MOST_TOKENS, DataSpec
from distill.data.cache_meta import CacheMeta, Survey
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.several import Several

BYTES_FIX = "VOCABULARY = 'bytes' with VOCAB_SIZE = 264 can represent any text"


def fitting(macro: str, longest: int) -> str:
    """The setting with which nothing is cut; what to do instead where there is none."""
    if longest > MOST_TOKENS:
        text = f"the longest has {longest:,}, and {macro} is at most {MOST_TOKENS:,}: shorten it"
        return f"{text} or split it"
    return f"{macro} = {longest} would fit all"


class DataSummary(Survey):
    """The numbers behind the line, as run.json holds them: see `summarize_data`."""

    rows: dict[str, int]
    pool: int
    dropped: dict[str, int]
    outside_labels: NotRequired[dict[str, int]]
    outside_budget: int
    unscored: int
    several: NotRequired[Several]
    sequences: dict[str, dict[str, int]]
    warnings: list[str]
    unknown_characters: dict[str, list[str]]


def summarize_data(spec: DataSpec, meta: CacheMeta) -> DataSummary:
    """The numbers behind the line, as run.json holds them.

    Args:
      spec: the run's data.
      meta: of its token cache.

    Returns:
      rows (by split), pool (rows before any were dropped), dropped (training rows, by reason),
      outside_labels (the most frequent labels of dropped rows that are none of the choices, if
      there are any), outside_budget (training rows that NUM_LABELS leaves out), unscored (test
      rows without a gold label), several (rationales of a row, if any has several), sequences
      (`SequenceCounts` of inputs and of each kind of target, before they were cut), warnings and
      unknown_characters (`distill.data.check.training`), and those of `RowSurvey.counts`.
    """
    counts, tasks = meta["counts"], meta["tasks"]
    used = counts["dropped"] + counts["train"] + counts["validation"]
    # Prefixes differ in length: an input may be cut for one task and not for another.
    inputs = dict(max((task["inputs"] for task in tasks.values()), key=lambda c: c["cut"]))
    inputs["longest"] = max(task["inputs"]["longest"] for task in tasks.values())
    kinds = {"label": "target" if spec.about_method.rationale_first else "label"}
    targets = {kinds.get(name, name): dict(task["targets"]) for name, task in tasks.items()}
    summary: DataSummary = {
        "rows": dict(meta["rows"]),
        "pool": counts["rows"],
        "dropped": dict(counts["reasons"]),
        "outside_budget": counts["rows"] - used,
        "unscored": meta["unscored"],
        "sequences": {"input": inputs, **targets},
        "warnings": list(meta["warnings"]),
        "unknown_characters": dict(meta["unknown_characters"]),
        **meta["survey"],
    }
    if several := meta.get("rationales"):
        summary["several"] = several
    if outside := counts.get("outside"):
        summary["outside_labels"] = dict(outside)
    return summary


def data_lines(spec: DataSpec, summary: DataSummary) -> list[str]:
    """The line that is shown before training, and after it the warnings.

    What concerns more than WARN_FROM is a warning, and not in the line.

    Args:
      spec: the run's data.
      summary: of `summarize_data`.
    """
    rows = summary["rows"]
    parts = [
        f"data: {number_of(rows['train'], 'training row')}, {_some(rows['validation'])} for "
        f"validation, {_some(rows['test'])} for the test"
    ]
    if left := summary["outside_budget"]:
        limit = f"NUM_LABELS = {spec.num_labels}"
        if not spec.num_labels:
            limit = f"LABEL_FRACTION = {spec.label_fraction}"
        parts.append(f"{number_of(left, 'row')} not used ({limit})")
    sequences = {name: SequenceCounts(**c) for name, c in summary["sequences"].items()}
    unknown = summary["unknown_characters"]
    facts = [*_row_facts(spec, summary), *_sequence_facts(spec, sequences, characters=unknown)]
    return _lines(parts, [*facts, *((True, text) for text in summary["warnings"])])


def input_lines(
    spec: DataSpec,
    counts: SequenceCounts,
    without_label: int = 0,
    missing_choices: int = 0,
    source: str = "",
    blank_lines: int = 0,
    unknown_words: Mapping[str, str] | None = None,
    labels_outside: Mapping[str, int] | None = None,
    again: int = 0,
) -> list[str]:
    """The line of rows that a student answers, and its warnings.

    Args:
      spec: what the student was trained with.
      counts: of the rows' inputs.
      without_label: rows that are not scored for lack of a label.
      missing_choices: rows without the choices that the student's inputs list.
      source: where the rows are from and how they were read.
      blank_lines: lines without a text, which are no rows.
      unknown_words: examples of words that the vocabulary lacks, and the ids of their rows; with
        any, the unknown tokens are a warning, however few they are.
      labels_outside: gold labels that are not in the student's label set, with their counts.
      again: rows that had been answered before, in a block that was not complete.
    """
    parts = [f"data: {number_of(counts.sequences, 'row')} answered"]
    if source:
        parts[0] += f", from {source}"
    if again:
        which = have(again, "its", "their")
        parts.append(f"{again:,} of them again, because {which} block was not complete")
    if blank_lines:
        parts.append(f"{number_of(blank_lines, 'blank line')} skipped")
    if without_label:
        parts.append(f"{number_of(without_label, 'row')} without a label, not scored")
    named = [f"{word!r} in row {row}" for word, row in (unknown_words or {}).items()]
    facts = [*_sequence_facts(spec, {"input": counts}, " in a new training run", ", ".join(named))]
    if missing_choices:
        told = share(missing_choices, counts.sequences, "row")
        warning = f"{told} {have(missing_choices)} no `choices`, but every training input of this "
        facts.append((True, f"{warning}student had them: add them to the rows"))
    if labels_outside:
        told = share(count := sum(labels_outside.values()), counts.sequences, "row")
        warning = f"{told} {have(count)} a label that is not one of the labels of this student, "
        facts.append(
            (True, f"{warning}so no answer to them is correct: {with_counts(labels_outside)}")
        )
    return _lines(parts, facts)


_Fact = tuple[bool, str]  # whether it is a warning, and what is told; "" for nothing


def _fact(part: int, whole: int, fact: str, warning: str) -> _Fact:
    """A warning if the part is more than WARN_FROM of the whole, else a part of the line."""
    is_warning = part > WARN_FROM * whole
    return is_warning, warning if is_warning else fact


def _row_facts(spec: DataSpec, summary: DataSummary) -> Iterator[_Fact]:
    """What is wrong with the rows themselves."""
    rows, pool, dropped = summary["rows"], summary["pool"], sum(summary["dropped"].values())
    chosen = rows["train"] + rows["validation"]
    reasons = ", ".join(f"{reason}: {n:,}" for reason, n in summary["dropped"].items())
    told = share(dropped, pool, "row")
    reasons = f"({reasons}){_outside(spec, summary)}"
    fact = f"{told} left out {reasons}" if dropped else "no row left out"
    warning = f"{told} {have(dropped)} no label for LABEL_SOURCE = {spec.label_source!r} and "
    yield _fact(dropped, pool, fact, f"{warning}{are(dropped)} left out {reasons}")
    if several := summary.get("several"):
        fewest, most = several["fewest"], several["most"]
        span = f"{most}" if fewest == most else f"{fewest} to {most}"
        told = f"{share(several['several'], several['rows'], 'row')} {have(several['several'])} "
        told += f"several rationales (m = {span}), each a training row that counts 1/m"
        yield False, told
    unscored = summary["unscored"]
    told = share(unscored, rows["test"] + unscored, "test row")
    fact = f"{told} without a gold label, left out" if unscored else ""
    warning = f"{told} {have(unscored)} no gold label and {are(unscored)} left out of the test"
    yield _fact(unscored, rows["test"] + unscored, fact, warning)
    if spec.about_method.reads_rationales:
        missing = summary["without_rationale"]
        labeled = several["rows"] + rows["validation"] if several else chosen
        told = share(missing, labeled, "labeled row")
        fact = f"{told} without a rationale" if missing else "no row without a rationale"
        warning = f"{told} {have(missing)} no rationale: METHOD = {spec.method!r} trains on "
        warning += f"only {'its' if missing == 1 else 'their'} label"
        yield _fact(missing, labeled, fact, warning)
    seen = summary["test_inputs_in_training"]
    warning = (
        f"{share(seen, rows['test'], 'test input')} also {'appears' if seen == 1 else 'appear'} "
    )
    warning += "in the training rows: test accuracy may overstate accuracy on new rows"
    yield _fact(seen, rows["test"], "", warning)
    if summary["classes"] == 1 and chosen > 1:
        yield True, f"all {chosen:,} labeled rows have the same label"
    count = summary["contradicting_rows"]
    warning = f"{share(count, chosen, 'labeled row')} {have(count)} an input that also occurs with "
    yield _fact(count, chosen, "", f"{warning}another label")


def _outside(spec: DataSpec, summary: DataSummary) -> str:
    """The labels of the teacher that are outside the closed set, and the setting to change."""
    labels = summary.get("outside_labels", {})
    if not labels:
        return ""
    name = "LABELS" if spec.option("labels") else "the rows' `choices`"
    return (
        f"; most frequent labels outside {name}: {with_counts(labels)}; add them to {name} if valid"
    )


def _sequence_facts(
    spec: DataSpec,
    sequences: Mapping[str, SequenceCounts],
    how: str = "",
    named: str = "",
    characters: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[_Fact]:
    """Sequences that are cut, and tokens that are unknown.

    Args:
      spec: what the student is trained with.
      sequences: counts by name: "input", and what the targets are.
      how: where a macro has to be set, if not for the run that is about to start.
      named: examples of what is unknown, which make it a warning.
      characters: some that are unknown, by the name of the sequences.
    """
    if whole := [name for name, counts in sequences.items() if not counts.cut]:
        yield False, f"no {_or(whole)} cut"
    for name, counts in sequences.items():
        if not counts.cut:
            continue
        macro = "INPUT_LENGTH" if name == "input" else "TARGET_LENGTH"
        limit = spec.input_length if name == "input" else spec.target_length
        told, fix = share(counts.cut, counts.sequences, name), fitting(macro, counts.longest)
        warning = f"{told} {are(counts.cut)} longer than {macro} = {limit} tokens "
        if name == "rationale" and spec.is_joined:
            warning += "together with the label before it "
        warning += f"and {are(counts.cut)} cut"
        if name == "target":
            warning += ", which loses the label at the end"
        advised = how if counts.longest <= MOST_TOKENS else ""
        fact = f"{told} cut, {fix}"
        yield _fact(counts.cut, counts.sequences, fact, f"{warning}; {fix}{advised}")
    if spec.vocabulary == "bytes":
        return
    if known := [name for name, counts in sequences.items() if not counts.unknown]:
        yield False, f"no unknown token in {_or(known, 's')}"
    for name, counts in sequences.items():
        if not counts.unknown:
            continue
        told = f"{counts.unknown / counts.tokens:.1%} of {name} tokens"
        warning = f"{told} are not in VOCABULARY = {spec.vocabulary!r} and are all encoded as the "
        examples = named or ", ".join(map(repr, (characters or {}).get(name, ())))
        warning += f"unknown token{f', e.g. {examples}' if examples else ''}; {BYTES_FIX}{how}"
        is_warning = bool(named) or counts.unknown > WARN_FROM * counts.tokens
        yield is_warning, warning if is_warning else f"{told} unknown"


def _lines(parts: list[str], facts: Iterable[_Fact]) -> list[str]:
    """The line of all parts, and after it the warnings."""
    told = [(is_warning, text) for is_warning, text in facts if text]
    line = "; ".join([*parts, *(text for is_warning, text in told if not is_warning)])
    return [line, *(f"warning: {text}" for is_warning, text in told if is_warning)]


def _or(names: list[str], plural: str = "") -> str:
    *first, last = (name + plural for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def _some(count: int) -> str:
    return f"{count:,}" if count else "none"
