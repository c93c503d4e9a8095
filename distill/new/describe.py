"""What `distill new` found, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from distill.common.phrases import are, have, number_of, share
from distill.data.check.labels import ALIKE, alike
from distill.new.measure import Measured
from distill.new.render import one_line
from distill.new.settings import Lengths
from distill.new.shape import Shape

# Texts of README.md and the Makefile.
FILL_IN = """\
In `prompt.toml`, write the rationale of each exemplar where it says `FILL IN`, and read the
   instructions."""
NO_EXEMPLARS = """\
In `prompt.toml`, read the instructions. There are no exemplars, as no row has a gold label; answers
   are better with a few rows of yours that have a label and a rationale."""
PREDICT_TEST = "| `make predict` | labels `test.jsonl`; `make predict INPUT=FILE` labels {} |"
PREDICT_INPUT = "| `make predict INPUT=FILE` | labels {} |"
NEW_ROWS = "new rows, with the fields of `{}` or, in a .txt file, one text per line"
PREDICT = "$(DISTILL) predict --run_dir=$(RUN) --input=test.jsonl --output=$(RUN)-predictions.jsonl"
EVALUATE = "$(DISTILL) evaluate --run_dir=$(RUN)"
TEST_OR_INPUT = " on `test.jsonl`; `make evaluate INPUT=FILE` scores it on other labeled rows"
NO_NEW_ROWS = "there are no test rows, so give new rows with INPUT=FILE"
NO_TEST = "no row had a gold label, so give labeled rows with INPUT=FILE"
MOST_SHOWN = 10  # labels
_TRAIN_ON_THEM = (
    "`make train ROWS=train` trains on them (give ROWS=train to `make evaluate` and `make "
    "predict`, too), and `make annotate` writes others in their place"
)


def describe_found(
    fields: Mapping[str, str],
    label_names: str,
    labels: Sequence[str],
    measured: Measured,
    source_name: str,
) -> str:
    """A Markdown list: how rows were read, and their labels.

    Args:
      fields: template of each field of a row.
      label_names: as of `--label_names`.
      labels: the closed set.
      measured: the rows.
      source_name: the file of the rows.
    """
    lines = [f"- {measured.rows:,} rows, {measured.labeled:,} with a gold label."]
    if fields:
        shown = ", ".join(f"{field} = `{one_line(template)}`" for field, template in fields.items())
        lines.append(f"- Fields of `{source_name}`: {shown}.")
    if label_names == "choices":
        lines.append("- The label is the number or the letter of one of the choices of a row.")
    elif label_names:
        lines.append(f"- Names of the labels: `{one_line(label_names)}`.")
    if labels:
        counts = [
            f"{one_line(label)} ({measured.labels[label]:,})" for label in labels[:MOST_SHOWN]
        ]
        more = ", ..." if len(labels) > MOST_SHOWN else ""
        lines.append(f"- {number_of(len(labels), 'label')}: {', '.join(counts)}{more}.")
    elif measured.most_choices:
        lines.append(f"- Each row has choices of its own, at most {measured.most_choices}.")
    else:
        lines.append("- Answers are free text.")
    if rationales := sum(measured.lengths["rationale"].values()):
        lines.append(f"- {number_of(rationales, 'rationale')}; {_TRAIN_ON_THEM}.")
    return "\n".join(lines)


def describe_rows(
    measured: Measured, labels: Sequence[str], lengths: Lengths, kind: str, shape: Shape
) -> list[str]:
    """Notes on what the user should know or change, each a sentence.

    Args:
      measured: the rows.
      labels: the closed set.
      lengths: the limits of tokens.
      kind: of the vocabulary.
      shape: how the rows were read.
    """
    notes: list[str] = []
    if not measured.labeled:
        notes.append(
            "no row has a gold label: the student trains on the teacher's labels, is not scored, "
            "and the rehearsal knows one label only"
        )
        if maybe := shape.maybe_label:
            flags = " or ".join(f"--field {shlex.quote(f'label={path}')}" for path in maybe)
            notes.append(f"if the file has gold labels, name their field: {flags}")
        if not labels and not measured.most_choices:
            notes.append("answers are open; give a closed set with --labels=A,B")
    else:
        notes += _notes_on_labels(measured, labels)
    if shape.model_label:
        teacher = shlex.quote(f"teacher_label={shape.model_label}")
        notes.append(
            f"the label is taken from {shape.model_label!r}, as if it were gold; if a model wrote "
            f"it, give --field {teacher}, and --field rationale=FIELD if it wrote reasons too"
        )
    numbers = [label for label in labels if _is_number(label)]
    if labels and len(numbers) == len(labels) and not shape.label_names:
        notes.append(
            f"the labels are {_kind_of(labels)} ({', '.join(labels[:MOST_SHOWN])}), whose meaning "
            "a teacher cannot know: give names with --label_names=NAME,NAME, or explain them in "
            "the instructions of prompt.toml"
        )
    if groups := alike(labels):
        texts = "; ".join(", ".join(map(repr, group)) for group in groups[:3])
        notes.append(f"{ALIKE}: {texts}; write each label in one way")
    if len(measured.labels) == 1 and not measured.uncounted:
        notes.append("all labels are the same: there is nothing to learn")
    if measured.lengths["rationale"]:
        notes.append(f"the file has rationales; {_TRAIN_ON_THEM}")
    elif shape.maybe_rationale:
        flags = " or ".join(
            f"--field {shlex.quote(f'rationale={path}')}" for path in shape.maybe_rationale
        )
        notes.append(f"no field is called `rationale`; if the file has rationales, give {flags}")
    if lengths.cut:
        unit = "bytes" if kind == "bytes" else "tokens"
        notes.append(
            f"{share(lengths.cut, measured.rows, 'input')} {are(lengths.cut)} longer than "
            f"INPUT_LENGTH = {lengths.input} {unit} and {are(lengths.cut)} cut; the longest has "
            f"{measured.longest('input'):,}. A larger INPUT_LENGTH in data.gin makes training "
            "slower" + ("; --vocabulary_path makes sequences shorter" if kind == "bytes" else "")
        )
    return notes


def _notes_on_labels(measured: Measured, labels: Sequence[str]) -> list[str]:
    """What to know of the gold labels, of which there are some."""
    notes = []
    if missing := measured.rows - measured.labeled:
        notes.append(f"{number_of(missing, 'row')} {have(missing)} no gold label")
    if not labels and not measured.most_choices:
        at_least = "more than " if measured.uncounted else ""
        notes.append(
            f"{at_least}{number_of(len(measured.labels), 'different label')} in "
            f"{number_of(measured.labeled, 'row')} are no closed set, so answers are free text; "
            "for a closed set give --labels=A,B, or another field with --field label=FIELD"
        )
    return notes


def _kind_of(labels: Sequence[str]) -> str:
    truth = all(label.casefold() in ("true", "false") for label in labels)
    return "truth values" if truth else "numbers"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.casefold() in ("true", "false")
    return True
