"""`distill predict`: labels, and rationales on request, of a trained student for new rows."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from distill.commands import arguments, several_hosts
from distill.common.flags import check_used
from distill.common.paths import check_json_lines
from distill.common.phrases import are, number_of
from distill.common.terminal import printable
from distill.errors import MOST, UserError, check_both, tells_on_interrupt

_SPLIT, _PENALTY, _PART_ROWS = "test", 0.6, 65_536  # defaults
_OWN = ("id", "input", "gold", "prediction", "correct", "ranked_label", "score", "rationale")

# Flags of --output_dir.
_OF_PARTS = (
    "part_rows",
    "coordinator_address",
    "coordinator_port",
    "num_processes",
    "process_id",
)

# Flags that say how rows are read and answered.
HOW = (
    "field",
    "label_names",
    "beam",
    "length_penalty",
    "answer",
    "rationale",
    "block_rows",
    "part_rows",
    "model_parallel",
)

if TYPE_CHECKING:
    from distill.inference.inputs import RowSource
    from distill.inference.part_files import WrittenParts
    from distill.inference.predictions import Answers, Written
    from distill.inference.predictor import Predictor

EPILOG = """\
  distill predict --run_dir=RUN "my fan seems burnt ."
  distill predict --run_dir=RUN --input=rows.jsonl --output=answers.jsonl --beam=4
  distill predict --run_dir=RUN --input='rows-*.jsonl' --output_dir=answers \\
      --num_processes=4 --process_id=0
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
        action="append",
        default=[],
        metavar="FILE",
        help="a file of rows (JSONL, CSV, TSV, Parquet or a JSON array, also .gz) with the field "
        "input, or a text file with one input per line; - for stdin. With --output_dir: JSONL "
        "files or patterns such as 'rows-*.jsonl'; repeatable",
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
    add_how(command)
    command.add_argument(
        "--output",
        metavar="FILE",
        help="write answers to this JSONL file; an incomplete file is continued",
    )
    command.add_argument(
        "--output_dir",
        metavar="FOLDER",
        help="write answers to this folder in parts, which several processes can share; complete "
        "parts are kept when the command is repeated",
    )
    several_hosts.add(command, shares=True)
    command.set_defaults(run=run, show=show, output_files=("output",))


def add_how(command: argparse.ArgumentParser) -> None:
    """Adds the flags that say how rows are read and answered (`HOW`)."""
    arguments.add_mapping(command)
    command.add_argument("--beam", type=int, default=1, help="beam size; default 1 (greedy)")
    command.add_argument(
        "--length_penalty",
        type=float,
        help=f"length penalty of the beam search (alpha in T5X); default {_PENALTY}",
    )
    arguments.add_answer(command)
    command.add_argument(
        "--rationale",
        action="store_true",
        help="also decode a rationale (step_by_step and answer_first runs)",
    )
    command.add_argument(
        "--block_rows",
        type=int,
        default=4096,
        help="number of rows to sort by length and write at a time",
    )
    command.add_argument(
        "--part_rows", type=int, help=f"rows in a part of --output_dir; default {_PART_ROWS}"
    )
    arguments.add_model_parallel(command)


def run(options: argparse.Namespace) -> Answers | Written | WrittenParts:
    """Answers the rows: {"predictions": [...]}, or what the file or folder holds."""
    check_flags(options)
    if not several_hosts.is_joined(options):
        several_hosts.check_not_alone(shares=True)
    if options.output_dir:
        return _run_parts(options)
    from distill.training import run_folder

    source, _ = check_both(
        lambda: _source(options), lambda: run_folder.read_config(options.run_dir)
    )
    from distill.common.progress import Progress, to_stderr
    from distill.inference import predictions

    predictor = _predictor(options)
    if options.output:
        made_by = {**predictor.made_by, "input": dict(source.described)}
        kept = f"{options.output} has the answers so far; the same command resumes there"
        with tells_on_interrupt(kept):
            written = predictions.write_predictions(
                options.output, source.rows, source.total, predictor, made_by, options.block_rows
            )
        new = written["rows"] - written["resumed_at"]
        for line in predictor.data_lines(source.name, len(source.blank_lines), new):
            to_stderr(line)
        return written
    records: list[dict[str, object]] = []
    with Progress(source.total, predictions.PROGRESS, period=0, disable=bool(options.text)) as bar:
        for block in predictions.in_blocks(source.rows, options.block_rows):
            records += [dict(predictions.to_prediction_record(p)) for p in predictor(block)]
            bar.update(len(block))
    for line in predictor.data_lines(source.name, len(source.blank_lines)):
        to_stderr(line)
    return {"predictions": records}


def _predictor(options: argparse.Namespace) -> Predictor:
    from distill.common.progress import to_stderr
    from distill.inference.predictor import Predictor

    penalty = _PENALTY if options.length_penalty is None else options.length_penalty
    return Predictor(
        options.run_dir,
        options.beam,
        penalty,
        options.rationale,
        to_stderr,
        answer=options.answer,
        model_parallel=None if options.text else arguments.model_parallel(options),
    )


def _run_parts(options: argparse.Namespace) -> WrittenParts:
    """Answers the parts of this process into --output_dir."""
    is_joined = several_hosts.is_joined(options)
    process = (0, 1) if is_joined else several_hosts.share_of(options)
    from distill.common.progress import to_stderr
    from distill.data.mapping.row_mapping import mapping_of
    from distill.inference import part_files, shards
    from distill.training import run_folder

    mapping = mapping_of(options.field, options.label_names)
    part_rows = options.part_rows or _PART_ROWS
    with contextlib.ExitStack() as stack:
        # For the other processes, which end together:
        wait: Callable[[str], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
        if is_joined:
            from distill.common.native_output import stdout_to_stderr
            from distill.training import hosts

            stack.enter_context(stdout_to_stderr())
            hosts.connect(*several_hosts.place_of(options))
            process, wait = hosts.index_and_count(), hosts.barrier
        with wait("reading the rows"):
            cut, _ = check_both(
                lambda: shards.cut(shards.find_files(options.input), part_rows),
                lambda: run_folder.read_config(options.run_dir),
            )
        predictor = _predictor(options)
        made_by = predictor.made_by | ({"fields": mapping.described} if mapping else {})
        sizes = {"part_rows": part_rows, "block_rows": options.block_rows}
        folder = options.output_dir
        kept = f"{folder} has the complete parts; the same command writes the others"
        with tells_on_interrupt(kept), wait("answering the rows"):
            written = part_files.write_parts(
                folder, cut, predictor, made_by, sizes, process, mapping or None
            )
        if is_joined:  # the others have written theirs meanwhile
            written["complete"] = part_files.count_complete(written["output_dir"], cut)
    if written["written"]:
        for line in predictor.data_lines(", ".join(options.input)):
            to_stderr(line)
    return written


def show(result: Answers | Written | WrittenParts) -> None:
    """Prints answers, or what was written."""
    if "output_dir" in result:
        _show_parts(result)
        return
    if "output" not in result:
        _print_table(result["predictions"])
        return
    text = f"{result['output']}: {number_of(result['rows'], 'row')}"
    if result["resumed_at"]:
        text += f", {result['resumed_at']:,} of them from an earlier run"
    if result["labeled"]:
        share = result["correct"] / result["labeled"]
        text += f"; {result['correct']:,} of {result['labeled']:,} correct ({share:.3f})"
    print(text)


def _show_parts(written: WrittenParts) -> None:
    folder, parts, complete = written["output_dir"], written["parts"], written["complete"]
    print(
        f"{folder}: {complete:,} of {number_of(parts, 'part')} of "
        f"{number_of(written['rows'], 'row')} {are(complete)} complete; this "
        f"process wrote {written['written']:,}"
    )
    if complete < parts:
        print(
            "the others belong to processes with another --process_id; without --num_processes and "
            "--process_id, the same command writes all that are missing"
        )
    else:
        print(f"to check and join them: distill data merge --input={folder} --output=FILE")


def _print_table(records: Sequence[Mapping[str, object]]) -> None:
    """One line a row, columns apart by a tab, their names first; --json has the other fields."""
    extra = {name: None for row in records for name in row if name not in _OWN}
    names = ["prediction", "input"]
    names += ["rationale"] if any("rationale" in row for row in records) else []
    for fields in ({n: n for n in (*names, *extra)}, *records):
        cells = (fields.get(name, "") for name in (*names, *extra))
        texts = (cell if isinstance(cell, str) else json.dumps(cell) for cell in cells)
        print("\t".join(printable(text, keep="") for text in texts))


def check_flags(options: argparse.Namespace) -> None:
    """Refuses flags of `predict` that would be ignored, or have no such value.

    Raises:
      UserError: names the flag.
    """
    for name in ("block_rows", "part_rows"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"got --{name} {value}, expected 1 to {MOST:,}")
    arguments.model_parallel(options)
    if not (options.input or options.tfds):
        mapped = [f"--{name}" for name in ("field", "label_names") if getattr(options, name)]
        check_used(mapped, "with --input or --tfds")
    if options.output:
        check_json_lines(options.output, "--output")
    if options.output and options.output_dir:
        raise UserError("got both --output and --output_dir, expected only one of them")
    if not options.output_dir:
        unused = [name for name in _OF_PARTS if getattr(options, name) is not None]
        unused += ["distributed"] if options.distributed else []
        check_used([f"--{name}" for name in unused], "with --output_dir")
        if len(options.input) > 1:
            raise UserError(f"got {len(options.input)} --input, expected one without --output_dir")
    elif options.text or options.tfds or options.format or "-" in options.input:
        raise UserError("--output_dir needs --input with JSONL files or patterns, and only that")
    if options.answer == "rank" and options.beam != 1:
        raise UserError(
            f"got both --answer=rank and --beam={options.beam}, expected only one of them: ranked "
            "answers are not decoded"
        )
    needs = {
        "tfds_split": (options.tfds, "with --tfds"),
        "tfds_data_dir": (options.tfds, "with --tfds"),
        "model_parallel": (not options.text, "with --input or --tfds"),
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
    path = options.input[0] if options.input else ""
    if path == "-":
        return inputs.of_stdin(sys.stdin.buffer, options.format, mapping)
    if path:
        return inputs.of_file(path, options.format, mapping)
    return inputs.of_tfds(
        options.tfds, options.tfds_split or _SPLIT, options.tfds_data_dir, mapping
    )
