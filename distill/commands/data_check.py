"""`distill data check`: what is wrong with rows, before a run or a teacher is paid for."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.flags import check_used
from distill.common.phrases import number_of
from distill.errors import CheckFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distill.data.check.report import Report, Rows, Settings
    from distill.data.examples import Example
    from distill.teacher.prompts import Prompt

EPILOG = """\
  distill data check --input=rows.csv --field input="{title}: {body}" --field label=topic
  distill data check --gin_file=esnli_mini_step_by_step --raw_dir=DATA --vocabulary_path=MODEL
"""
_FILE_FLAGS = ("test_input", "field", "label_names", "labels", "label_source")


def add(actions: argparse._SubParsersAction) -> None:
    """Adds the action `check`."""
    text = "check rows: vocabulary, lengths, labels, duplicates, rationales, teacher accuracy"
    command = arguments.add(actions, "check", text, configured=True)
    command.epilog = EPILOG
    files = command.add_argument_group("rows of files (without --gin_file)")
    files.add_argument("--input", metavar="FILE", help="file of training rows")
    files.add_argument("--test_input", metavar="FILE", help="file of test rows")
    arguments.add_trained_fields(
        files,
        "fill a field of a row (id, input, label, choices, teacher_label, rationale) from "
        "fields of the file, as for `distill predict`; rationale may be given several times",
    )
    files.add_argument(
        "--label_source",
        choices=("gold", "teacher"),
        help="labels to train on; default: gold if any row has one",
    )
    command.add_argument(
        "--prompt",
        metavar="NAME|FILE",
        help="a prompt of `distill annotate`: look for its exemplars among the rows",
    )
    command.add_argument("--output", metavar="FILE", help="write the report as an HTML page")
    command.add_argument(
        "--strict", action="store_true", help="exit with 2 if there is a problem or a warning"
    )
    command.set_defaults(run=run, show=show, output_files=("output",))


def run(options: argparse.Namespace) -> Report:
    """Checks the rows that the options name.

    Raises:
      UserError: no rows, or two sources; what their readers refuse.
      CheckFailed: with --strict, if there is a problem or a warning.
    """
    if bool(options.input) == bool(options.gin_file):
        given = "both --input and --gin_file" if options.input else "no rows"
        raise UserError(
            f"got {given}, expected --input=FILE (rows of a file) or --gin_file=FILE (the data of "
            "a configuration)"
        )
    _check_output(options.output)
    prompt = None
    if options.prompt:
        from distill.teacher.prompts import load_prompt

        prompt = load_prompt(options.prompt)
    name, splits, settings = (_of_files if options.input else _of_run)(options, prompt)
    from distill.data.check.report import check_rows

    report = check_rows(name, splits, settings)
    if options.output:
        from etils import epath

        from distill.common.atomic import write_text
        from distill.data.check.page import render_page

        path = epath.Path(options.output).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, render_page(report))
    counts = report["counts"]
    if options.strict and counts["problem"] + counts["warning"]:
        raise CheckFailed(
            f"{name}: {number_of(counts['problem'], 'problem')} and "
            f"{number_of(counts['warning'], 'warning')}",
            report,
        )
    return report


def show(report: Report) -> None:
    """Prints the report."""
    from distill.data.check.report import render_text

    print(render_text(report))


def _check_output(path: str | None) -> None:
    if path:
        from distill.common.own_files import check_content
        from distill.data.check.page import MARK

        check_content(
            path, "--output", "distill data check", lambda content: MARK.encode() in content[:200]
        )


def _of_run(
    options: argparse.Namespace, prompt: Prompt | None
) -> tuple[str, dict[str, Rows], Settings]:
    """The data of a configuration, before NUM_LABELS chooses among them."""
    check_used(
        (f"--{name}" for name in _FILE_FLAGS if getattr(options, name)),
        "with --input; a configuration has macros such as FIELDS and LABELS",
    )
    from distill.config.resolve import resolve
    from distill.convert.sizes import adopt_sizes
    from distill.data import datasets
    from distill.data.cache import vocabulary_of
    from distill.data.check.report import Settings

    names = arguments.gin_files(options)
    spec = resolve(names, options.overrides, options.engine, adopt_sizes).run.data
    datasets.check_settings(spec)
    dataset = datasets.get(spec.dataset)
    train, test = dataset.load(spec)
    settings = Settings(
        spec.label_source,
        tuple(dataset.labels(spec)),
        dataset.correct,
        vocabulary_of(spec),
        {"INPUT_LENGTH": spec.input_length, "TARGET_LENGTH": spec.target_length},
        max(map(spec.prefix, spec.tasks), key=len),
        dataset.eos_mark(spec),
        tuple(row.input for row in prompt.exemplars) if prompt else (),
    )
    splits: dict[str, Rows] = {"train": lambda: train}
    if test:
        splits["test"] = lambda: test
    return f"dataset {spec.dataset}", splits, settings


def _of_files(
    options: argparse.Namespace, prompt: Prompt | None
) -> tuple[str, dict[str, Rows], Settings]:
    """Rows of files, read anew for each pass."""
    macros = [text.partition("=")[0] for text in options.overrides]
    macros = [name for name in macros if name != "VOCABULARY_PATH"]  # of --vocabulary_path
    check_used((f"--gin.{name}" for name in macros), "with --gin_file")
    from distill.data.check.report import Settings
    from distill.data.mapping.row_mapping import TRAINED, mapping_of
    from distill.data.tables import stream_table
    from distill.data.vocabularies import make_vocabulary

    mapping = mapping_of(options.field, options.label_names, TRAINED)
    labels = arguments.labels_of(options) or (mapping.names.names if mapping.names else ())
    path = options.vocabulary_path
    vocabulary = make_vocabulary("sentencepiece", path) if path else make_vocabulary("bytes")
    files = {"train": options.input, "test": options.test_input}
    splits: dict[str, Rows] = {
        split: functools.partial(stream_table, file, split, labels, mapping, "--labels")
        for split, file in files.items()
        if file
    }
    source = options.label_source
    if source is None:
        source = _source_of(splits["train"]())
    exemplars = tuple(row.input for row in prompt.exemplars) if prompt else ()
    settings = Settings(source, labels, vocabulary=vocabulary, exemplars=exemplars)
    return str(options.input), splits, settings


def _source_of(rows: Iterable[Example]) -> str:
    """Whose labels train: the teacher's if there are such labels and no gold ones."""
    has_teacher = False
    for row in rows:
        if row.label is not None:
            return "gold"
        has_teacher |= row.teacher_label is not None or row.failure is not None
    return "teacher" if has_teacher else "gold"
