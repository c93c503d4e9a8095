"""`distill new`: a folder that trains a student for a file of rows."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.terminal import printable

if TYPE_CHECKING:
    from distill.new.task import Created

EPILOG = """\
  distill new mytask --input=rows.csv
  cd mytask && make check annotate train evaluate predict

The command finds the fields and the labels, asks nothing, and changes nothing that exists. The
folder has a prompt, gin files, a Makefile and a README. Its first run is a rehearsal, which sends
nothing to a model.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `new`."""
    text = "create a project folder for annotating your rows and training a student on them"
    command = arguments.add(commands, "new", text, configured=False)
    command.epilog = EPILOG
    command.add_argument(
        "folder", metavar="FOLDER", help="the folder to create, named after the task"
    )
    command.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="the rows: JSONL, CSV, TSV, Parquet or a JSON array, also .gz",
    )
    command.add_argument(
        "--test_input",
        metavar="FILE",
        help="test rows of the same shape; default: a fifth of the labeled rows of --input, at "
        "most about 1,000",
    )
    arguments.add_trained_fields(
        command,
        "fill a field of a row (id, input, label, choices, teacher_label, rationale) from "
        'fields of the file; repeatable, e.g. --field input="{title}: {body}" --field label=topic; '
        "fields that you do not give are found by names and values; --field label= leaves a "
        "field out",
    )
    command.add_argument(
        "--vocabulary_path",
        help="a SentencePiece model file, such as T5's; default: the student reads bytes",
    )
    command.add_argument(
        "--init_from",
        help="start from this checkpoint: a Hugging Face folder or a run folder; default: a small "
        "student from random weights",
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> Created:
    """Makes the folder."""
    from distill.new.create import create
    from distill.new.task import Request

    request = Request(
        options.folder,
        options.input,
        options.test_input or "",
        tuple(options.field),
        options.label_names,
        arguments.labels_of(options),
        options.vocabulary_path or "",
        options.init_from or "",
    )
    return create(request)


def show(result: Created) -> None:
    """Prints what was found and what comes next."""
    from distill.new.describe import MOST_SHOWN

    rows = result["rows"]
    print(f"{result['folder']}: {rows['train']:,} rows to train on, {rows['test']:,} to test on")
    for field, template in result["fields"].items():
        print(f"{field}: {printable(template)}")
    labels = result["labels"]
    if labels:
        more = ", ..." if len(labels) > MOST_SHOWN else ""
        print(f"labels: {printable(', '.join(labels[:MOST_SHOWN]))}{more}")
    print(f"INPUT_LENGTH = {result['input_length']}, TARGET_LENGTH = {result['target_length']}")
    for note in result["notes"]:
        print(f"note: {printable(note)}")
    print(f"next: cd {result['folder']} && make {' '.join(result['commands'])}")
