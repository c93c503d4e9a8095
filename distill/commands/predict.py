"""`distill predict`: labels, and rationales on request, of a trained student for new rows."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.flags import check_used
from distill.common.terminal import printable
from distill.errors import MOST, UserError, check_both

_SPLIT, _PENALTY = "test", 0.6  # defaults
_OWN = ("id", "input", "gold", "prediction", "correct", "ranked_label", "score", "rationale")

if TYPE_CHECKING:
    from distill.inference.inputs import RowSource
    from distill.inference.predictions import Answers, Written

EPILOG = """\
  distill predict --run_dir=RUN "my fan seems burnt ."
  distill predict --run_dir=RUN --input=rows.jsonl --output=answers.jsonl --beam=4
  distill predict --run_dir=RUN --tfds=glue/mnli:2.0.0 --tfds_split=validation_matched \\
      --field input="premise: {premise} hypothesis: {hypothesis}" --output=answers.jsonl
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `predict`."""
    text = "label new rows with a trained student"
    command = arguments.add(commands, "predict", text, configured=False)
    command.epilog = EPILOG
    command.add_argument("--run_dir", required=True, help="the run folder")
    command.add_argument("text", nargs="*", help="texts to label; each argument is one row")
    command.add_argument(
        "--input",
        metavar="FILE",
        help="a file of rows (JSONL, CSV, TSV, Parquet or a JSON array, also .gz) with the field "
        "input, or a text file with one input per line; - for stdin",
    )
    command.add_argument(
        "--format",
        choices=("csv", "tsv", "jsonl", "json", "parquet", "text"),
        help="format of --input; default: from the suffix, or from the first line if the suffix "
        "is unknown (JSONL if it starts with {, CSV if it has a column input, else text)",
    )
    command.add_argument(
        "--tfds", metavar="NAME/CONFIG:VERSION", help="a TFDS dataset that is already built"
    )
    command.add_argument(
        "--tfds_split", help=f"split or slice of the TFDS dataset; default {_SPLIT}"
    )
    command.add_argument("--tfds_data_dir", help="folder of TFDS datasets; default: that of TFDS")
    arguments.add_mapping(command)
    command.add_argument("--beam", type=int, default=1, help="beam size; default 1 (greedy)")
    command.add_argument(
        "--length_penalty",
        type=float,
        help=f"length penalty of the beam search (alpha in T5X); default {_PENALTY}",
    )
    arguments.add_answer(command)
    command.add_argument(
        "--rationale", action="store_true", help="also decode a rationale (step_by_step runs)"
    )
    command.add_argument(
        "--output",
        metavar="FILE",
        help="write answers to this JSONL file; an incomplete file is continued",
    )
    command.add_argument(
        "--block_rows",
        type=int,
        default=4096,
        help="number of rows to sort by length and write at a time",
    )
    command.set_defaults(run=run, show=show, output_files=("output",))


def run(options: argparse.Namespace) -> Answers | Written:
    """Answers the rows: {"predictions": [...]}, or with --output what the file holds."""
    _check_used(options)
    if not 1 <= options.block_rows <= MOST:
        raise UserError(f"got --block_rows {options.block_rows}, expected 1 to {MOST:,}")
    penalty = _PENALTY if options.length_penalty is None else options.length_penalty
    from distill.training import run_folder

    source, _ = check_both(
        lambda: _source(options), lambda: run_folder.read_config(options.run_dir)
    )
    from distill.common.progress import Progress, to_stderr
    from distill.inference import predictions
    from distill.inference.predictor import Predictor

    predictor = Predictor(
        options.run_dir,
        options.beam,
        penalty,
        options.rationale,
        to_stderr,
        answer=options.answer,
    )
    if options.output:
        made_by = {**predictor.made_by, "input": dict(source.described)}
        try:
            written = predictions.write_predictions(
                options.output, source.rows, source.total, predictor, made_by, options.block_rows
            )
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                f"interrupted: {options.output} has the answers so far; the same command resumes "
                "there"
            ) from interrupt
        for line in predictor.data_lines(source.name, len(source.blank_lines)):
            to_stderr(line)
        return written
    records: list[dict[str, object]] = []
    with Progress(source.total, period=0, disable=bool(options.text)) as bar:
        for block in predictions.in_blocks(source.rows, options.block_rows):
            records += [dict(predictions.to_prediction_record(p)) for p in predictor(block)]
            bar.update(len(block))
    for line in predictor.data_lines(source.name, len(source.blank_lines)):
        to_stderr(line)
    return {"predictions": records}


def show(result: Answers | Written) -> None:
    """Prints answers, or what was written."""
    if "output" not in result:
        _print_table(result["predictions"])
        return
    text = f"{result['output']}: {result['rows']:,} rows"
    if result["resumed_at"]:
        text += f", {result['resumed_at']:,} of them from an earlier run"
    if result["labeled"]:
        share = result["correct"] / result["labeled"]
        text += f"; {result['correct']:,} of {result['labeled']:,} correct ({share:.3f})"
    print(text)


def _print_table(records: Sequence[Mapping[str, object]]) -> None:
    """One line a row, columns apart by a tab, their names first; --json has the other fields."""
    extra = {name: None for row in records for name in row if name not in _OWN}
    names = ["prediction", "input"]
    names += ["rationale"] if any("rationale" in row for row in records) else []
    for fields in ({n: n for n in (*names, *extra)}, *records):
        cells = (fields.get(name, "") for name in (*names, *extra))
        texts = (cell if isinstance(cell, str) else json.dumps(cell) for cell in cells)
        print("\t".join(printable(text, keep="") for text in texts))


def _check_used(options: argparse.Namespace) -> None:
    """Refuses flags that would be ignored."""
    if not (options.input or options.tfds):
        mapped = [f"--{name}" for name in ("field", "label_names") if getattr(options, name)]
        check_used(mapped, "with --input or --tfds")
    if options.answer == "rank" and options.beam != 1:
        raise UserError(
            f"got both --answer=rank and --beam={options.beam}, expected only one of them: ranked "
            "answers are not decoded"
        )
    needs = {
        "tfds_split": (options.tfds, "with --tfds"),
        "tfds_data_dir": (options.tfds, "with --tfds"),
        "length_penalty": (options.beam != 1, "with --beam=2 or more"),
    }
    for name, (is_there, where) in needs.items():
        if getattr(options, name) is not None and not is_there:
            check_used([f"--{name}"], where)


def _source(options: argparse.Namespace) -> RowSource:
    """The one source of rows that was given."""
    given_flags = [name for name in ("text", "input", "tfds") if getattr(options, name)]
    if not given_flags:
        raise UserError("nothing to label: give a text, --input=FILE (or -), or --tfds=NAME")
    if len(given_flags) > 1:
        raise UserError(f"got rows from {' and '.join(given_flags)}, expected only one of them")
    if options.format and not options.input:
        raise UserError(f"--format={options.format} needs --input: it is the format of that file")
    from distill.data.mapping.row_mapping import mapping_of
    from distill.inference import inputs

    if options.text:
        return inputs.of_texts(options.text)
    mapping = mapping_of(options.field, options.label_names)
    if options.input == "-":
        return inputs.of_stdin(sys.stdin.buffer, options.format, mapping)
    if options.input:
        return inputs.of_file(options.input, options.format, mapping)
    return inputs.of_tfds(
        options.tfds, options.tfds_split or _SPLIT, options.tfds_data_dir, mapping
    )
