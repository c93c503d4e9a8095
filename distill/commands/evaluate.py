"""`distill evaluate`: scores a trained run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill.commands import arguments, several_hosts
from distill.common.flags import check_used
from distill.common.table import render_columns
from distill.common.terminal import printable
from distill.errors import UserError, check_both, tells_on_interrupt

if TYPE_CHECKING:
    from distill.common.accuracy import ClassScore
    from distill.inference.inputs import RowSource
    from distill.inference.scoring import Evaluation

_OTHER = "(other)"  # answers that are none of the classes
_MOST_SHOWN, _LONGEST = 3, 40  # of them; characters of each
_MOST_COLUMNS = 12  # classes of a confusion matrix that is printed


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `evaluate`."""
    command = arguments.add(commands, "evaluate", "score a trained run", configured=False)
    command.add_argument("--run_dir", required=True, help="the run folder")
    command.add_argument(
        "--split",
        choices=("validation", "test"),
        help="split of the run's data to score; the data files must still exist; default test",
    )
    command.add_argument(
        "--input",
        metavar="FILE",
        help="score the labeled rows of this file (JSONL, CSV, TSV, Parquet or a JSON array, also "
        ".gz); the data of the run are not needed",
    )
    arguments.add_mapping(command)
    arguments.add_answer(command)
    command.add_argument("--output", metavar="FILE", help="write the scores to this JSON file")
    command.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="only for a dataset that a Python module of your own registers: a gin file that "
        "imports this module",
    )
    arguments.add_model_parallel(command)
    several_hosts.add(command)
    command.set_defaults(run=run, show=show, output_files=("output",))


def run(options: argparse.Namespace) -> Evaluation:
    """Scores a split, or a file; on several hosts, all of them give the scores."""
    if options.input and options.split:
        raise UserError("got both --input and --split, expected only one of them")
    if not options.input:
        mapped = [f"--{name}" for name in ("field", "label_names") if getattr(options, name)]
        check_used(mapped, "with --input")
    arguments.model_parallel(options)
    with tells_on_interrupt("no scores are kept; the same command starts again"):
        return _run(options)


def _run(options: argparse.Namespace) -> Evaluation:
    if not several_hosts.is_given(options):
        several_hosts.check_not_alone()
        return _evaluate(options, _prepare(options))  # reads before jax is imported
    from distill.common.native_output import stdout_to_stderr
    from distill.training import hosts

    with stdout_to_stderr():
        hosts.connect(*several_hosts.place_of(options))
        with hosts.barrier("reading the rows"):
            source = _prepare(options)
        return _evaluate(options, source)


def _evaluate(options: argparse.Namespace, source: RowSource | None) -> Evaluation:
    """The scores, which the first host writes to --output."""
    from distill.common.progress import to_stderr
    from distill.inference import scoring
    from distill.training.hosts import host0_only, is_host0

    how = options.answer, arguments.model_parallel(options)
    if source is not None:
        say = host0_only(to_stderr)
        scores = scoring.evaluate_file(options.run_dir, source, options.input, say, *how)
    else:
        scores = scoring.evaluate(options.run_dir, options.split or "test", *how)[0]
    if options.output and is_host0():
        from etils import epath

        from distill.common.atomic import write_json

        path = epath.Path(options.output).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, scores)
    return scores


def _prepare(options: argparse.Namespace) -> RowSource | None:
    """Checks the paths and imports the dataset's module; gives the rows of --input."""
    from distill.config import files, macros, resolve
    from distill.data.mapping.row_mapping import mapping_of
    from distill.inference import inputs
    from distill.training import run_folder

    if options.output:
        _check_output(options.output)
    source = None
    if options.input:
        mapping = mapping_of(options.field, options.label_names)
        source, _ = check_both(
            lambda: inputs.labeled_of_file(options.input, mapping),
            lambda: run_folder.read_config(options.run_dir),
        )
    resolve.import_tasks()
    paths = [files.resolve_path(name) for name in options.gin_file]
    imports = macros.read_gin(paths).imports
    if paths and not imports:
        raise UserError(
            f"--gin_file={paths[0]} imports no module, so it has no effect: the settings come "
            "from the run folder"
        )
    resolve.import_modules(imports)
    return source


def _check_output(path: str) -> None:
    """Refuses to replace a file that is not the scores of an earlier `distill evaluate`."""
    from etils import epath

    from distill.common.own_files import check_content
    from distill.common.text_files import parse_json
    from distill.inference.scoring import Evaluation

    def is_scores(content: bytes) -> bool:
        scores = parse_json(content)
        written, known = {"accuracy", "interval", "n"}, Evaluation.__annotations__.keys()
        return isinstance(scores, dict) and written <= scores.keys() <= known

    check_content(epath.Path(path).expanduser(), "--output", "distill evaluate", is_scores)


def show(scores: Evaluation) -> None:
    """Prints the accuracy, and for a closed set the scores of each class and who is confused."""
    low, high = scores["interval"]
    line = f"{scores['accuracy']:.3f} [{low:.3f}, {high:.3f}], n {scores['n']}"
    if "macro_f1" in scores:
        line += f", macro-F1 {scores['macro_f1']:.3f}"
    if scores.get("without_label"):
        line += f"; {scores['without_label']:,} more rows have no label"
    print(f"{scores['split'] if 'split' in scores else scores['input']}: {line}")
    if "by_class" in scores:
        counts = scores["confusion"]["counts"]
        other = sum(row[-1] for row in counts)
        print(f"\n{_class_table(scores['by_class'], other)}")
        if other:
            print(_other_line(other, sum(map(sum, counts)), scores["other_answers"]))
        print(f"\n{_confusion_table(**scores['confusion'])}")


def _class_table(by_class: Mapping[str, ClassScore], other: int) -> str:
    rows = []
    for label, score in by_class.items():
        values = score["precision"], score["recall"], score["f1"]
        numbers = ("-" if value is None else f"{value:.3f}" for value in values)
        counts = f"{score['support']:,}", f"{score['predicted']:,}"
        rows.append((printable(label, keep=""), *numbers, *counts))
    if other:
        rows.append((_OTHER, "-", "-", "-", "0", f"{other:,}"))
    header = ("class", "precision", "recall", "F1", "support", "predicted")
    return render_columns(header, rows, "<>>>>>")


def _other_line(other: int, total: int, answers: Mapping[str, int]) -> str:
    """What the answers are that are none of the classes."""
    texts = (f"{text[:_LONGEST]}..." if len(text) > _LONGEST else text for text in answers)
    counts = [*answers.values()][:_MOST_SHOWN]
    shown = [f"'{printable(t, keep='')}' {n:,}" for t, n in zip(texts, counts, strict=False)]
    verb, times = ("matches", "counts") if other == 1 else ("match", "count")
    more = ", ..." if sum(counts) < other else ""
    return (
        f"{_OTHER}: {other:,} of {total:,} answers {verb} none of the classes and {times} as "
        f"wrong: {', '.join(shown)}{more}"
    )


def _confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A row a gold class, a column a predicted one; the last for answers that are no class."""
    if len(classes) > _MOST_COLUMNS:
        return (
            f"the confusion matrix has {len(classes)} classes: use --json or --output=FILE to get "
            "it"
        )
    shown = [printable(label, keep="") for label in classes]
    rows = [(label, *map(str, row)) for label, row in zip(shown, counts, strict=True)]
    header = ("gold \\ predicted", *shown, _OTHER)
    return render_columns(header, rows, "<" + ">" * (len(shown) + 1))
