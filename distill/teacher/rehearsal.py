"""A rehearsal of `distill annotate`: known labels and a dummy rationale, and nothing is sent.

Each row gets the completion that the prompt shows for its gold label; the prompt's parser reads it
as it reads a model's. So a rehearsal also finds labels that the parser does not read back. It
keeps no store: a model's job has nothing of it to find, and neither replaces the other's output.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from distill.common.own_files import check_own, writing_own
from distill.common.paths import check_distinct
from distill.common.phrases import number_of
from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher.prompts import Prompt, load_prompt, name_for
from distill.teacher.results import aggregate
from distill.teacher.results.filters import Filters
from distill.teacher.settings import Inputs

COMMAND = "distill annotate --rehearsal"
RATIONALE = "This is a rehearsal, in which no model was asked for a reason."
UNFILLED = "FILL IN"  # begins the rationale of an exemplar that nobody has written
_NO_LABEL = "rehearsal"


class Rehearsed(TypedDict):
    """What `rehearse` did.

    Attributes:
      copied: rows with a copy of their own gold label.
      guessed: rows with the most frequent label, for they have no gold label.
      replaced: rows whose own teacher label or rationale is not in the output.
      unread: rows whose label the prompt's parser did not read back, by failure.
    """

    mode: Literal["rehearsal"]
    output: str
    rows: int
    copied: int
    guessed: int
    replaced: int
    unread: dict[str, int]
    first_unread: str


def rehearse(output: str, rows: Sequence[Example], inputs: Inputs) -> Rehearsed:
    """Writes the rows with a teacher label and a rationale that no model gave.

    Args:
      output: the JSONL file to write.
      rows: the rows.
      inputs: the flags that name the rows and the prompt.

    Raises:
      UserError: no prompt; an output that another command wrote; a row that the prompt
        cannot hold.
    """
    prompt = load_prompt(name_for(inputs))
    dropped = aggregate.dropped_path(output)
    if inputs.input:
        check_distinct([("--output", str(dropped))], [("--input", inputs.input)])
    check_own(output, "--output", COMMAND, [dropped])
    for row in rows if prompt.input_pattern else ():
        prompt.question(row)
    counts: collections.Counter[str] = collections.Counter()
    gold = collections.Counter(row.label for row in rows if row.label is not None)
    usual = gold.most_common(1)[0][0] if gold else None
    result: Rehearsed = {
        "mode": "rehearsal",
        "output": output,
        "rows": len(rows),
        "copied": sum(gold.values()),
        "guessed": len(rows) - sum(gold.values()),
        "replaced": sum(bool(row.teacher_label or row.rationale) for row in rows),
        "unread": {},
        "first_unread": "",
    }

    def answered() -> Iterator[aggregate.AggregatedRow]:
        for row in rows:
            label = row.label if row.label is not None else _guess(row, prompt, usual)
            text = prompt.answer(dataclasses.replace(row, label=label, rationale=RATIONALE))
            said = prompt.parse(row, text)
            if said.label is None or not prompt.same(said.label, label):
                failure = str(said.failure or f"read as {said.label!r}")
                result["first_unread"] = result["first_unread"] or f"{label!r} of row {row.id}"
                counts[failure] += 1
            reading = dataclasses.replace(
                row,
                teacher_label=said.label,
                rationale=said.rationale,
                more_rationales=(),
                failure=said.failure,
            )
            yield aggregate.AggregatedRow(((reading, text),), 1.0)

    with writing_own(output, COMMAND):
        aggregate.write_annotated(output, answered(), Filters(), prompt.same)
    result["unread"] = dict(counts)
    return result


def _guess(row: Example, prompt: Prompt, usual: str | None) -> str:
    """A label for a row without one: the most frequent, if the row may have it."""
    allowed = [*prompt.choices_of(row)]
    if usual is not None and (not allowed or usual in allowed):
        return usual
    return allowed[0] if allowed else _NO_LABEL


def unfilled(prompt: Prompt) -> list[int]:
    """The exemplars (from 1) whose rationale is still what `distill new` wrote."""
    return [
        number
        for number, row in enumerate(prompt.exemplars, start=1)
        if (row.rationale or "").startswith(UNFILLED)
    ]


def check_filled_in(prompt: Prompt) -> None:
    """Refuses to ask a model with exemplars that nobody has written.

    Raises:
      UserError: names the exemplars.
    """
    if numbers := unfilled(prompt):
        several = len(numbers) > 1
        raise UserError(
            f"prompt {prompt.name!r}: the rationale{'s' if several else ''} of exemplar"
            f"{'s' if several else ''} {', '.join(map(str, numbers))} "
            f"{'begin' if several else 'begins'} with {UNFILLED!r}: write each reason in a "
            "sentence, or remove the exemplar; --rehearsal needs no reasons, and --dry_run shows "
            "the first prompt"
        )


def describe(result: Rehearsed) -> str:
    """The result for people."""
    guessed = ""
    if result["guessed"]:
        rows = "row" if result["guessed"] == 1 else "rows"
        label = "the most frequent label" if result["copied"] else "a made-up label"
        guessed = f", {label} for {result['guessed']:,} {rows} without one"
    lines = [
        f"{result['output']}: {number_of(result['rows'], 'row')}; rehearsal: copies of "
        f"{result['copied']:,} gold labels{guessed}, and no rationale of a model; nothing was "
        "sent or stored"
    ]
    if result["replaced"]:
        rows = "row has" if result["replaced"] == 1 else "rows have"
        lines.append(
            f"warning: {result['replaced']:,} {rows} a teacher label or a rationale already, which "
            f"{result['output']} does not contain: to train on them, use --input's file as "
            "TRAIN_FILE; LABEL_SOURCE = 'teacher' trains on a teacher's labels"
        )
    if result["unread"]:
        counts = ", ".join(f"{count:,} {name}" for name, count in result["unread"].items())
        lines.append(
            f"warning: the prompt's parser did not read back {sum(result['unread'].values()):,} "
            f"labels ({counts}), the first {result['first_unread']}; a model's answers would be "
            "lost in the same way: change the parser, `labels` or `completion` of the prompt"
        )
    return "\n".join(lines)
