"""The Python API: what `import distill` offers (docs/api.md).

Importing this module loads neither jax nor tensorflow; its functions do, when they are called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from distill.api_arguments import (
    PathLike,
    Say,
    check_flag,
    check_gin_files,
    check_overrides,
    check_path_argument,
    check_progress,
    check_rows,
)
from distill.api_results import (
    Evaluation,
    Prediction,
    TrainResult,
    to_evaluation,
    to_prediction,
    to_result,
)
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.api_arguments import Row
    from distill.config.run import RunConfig
    from distill.data.examples import Example
    from distill.export.targets import Exported
    from distill.inference.load import LoadedRun


class Student:
    """A trained student in memory; `load` makes one."""

    def __init__(self, run: LoadedRun, progress: Say | None = None) -> None:
        """Wraps a loaded run; see `load`."""
        self._run, self._progress = run, check_progress(progress)

    def __repr__(self) -> str:
        data = self.config.data
        return f"Student({self.run_dir!r}, dataset={data.dataset!r}, method={data.method!r})"

    @property
    def run_dir(self) -> str:
        """The run folder."""
        return os.fspath(self._run.folder)

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self._run.config

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed label set; () for open answers, and if each row has its own `choices`."""
        return self._run.assets.labels

    def predict(
        self,
        rows: Row | Iterable[Row],
        *,
        rationales: bool = False,
        beam: int = 1,
        length_penalty: float = 0.6,
    ) -> list[Prediction]:
        """Answers rows; no language model is asked.

        Args:
          rows: texts, mappings with the field `input` (and `id`, `label`, `choices`, as in
            `distill predict --input`), or Examples. A single one counts as a list of one.
          rationales: whether to decode rationales too; needs METHOD = 'step_by_step' or
            'answer_first'.
          beam: number of prefixes of the beam search; 1 decodes greedily.
          length_penalty: of the beam search, T5X's alpha.

        Returns:
          A prediction per row, in the order of the rows.

        Raises:
          UserError: a row with a bad field, by its index; bad settings of the beam search;
            rationales of a student without that task.
        """
        from distill.inference import inputs
        from distill.inference.predictor import Predictor

        if isinstance(rows, str) and os.path.isfile(rows):
            raise UserError(
                f"got rows={rows!r}, which is a file, expected a text or rows: read the file, or "
                f"use `distill predict --input={rows}`"
            )
        examples = inputs.of_objects(check_rows(rows))
        check_flag(rationales, "rationales")
        if beam == 1 and length_penalty != 0.6:
            raise UserError(
                f"got length_penalty={length_penalty!r}, which works only with beam > 1"
            )
        predictor = Predictor(
            self._run, beam, length_penalty, rationales, self._progress, probabilities=True
        )
        predictions = predictor(examples) if examples else []
        for warning in predictor.data_lines()[1:]:
            self._progress(warning)
        return [to_prediction(prediction) for prediction in predictions]

    def export(
        self,
        output: PathLike,
        *,
        to: str = "hf",
        quantization: str | None = None,
        rows: Iterable[Row] | None = None,
        input_length: int | None = None,
    ) -> Exported:
        """Writes the student in a form that other programs load (docs/export.md).

        Args:
          output: the folder to write, local; it must not exist.
          to: "hf", "ctranslate2" or "stablehlo".
          quantization: for ctranslate2: "float32" (the default) or "int8".
          rows: for ctranslate2: rows as of `predict`, whose answers are compared; None takes the
            test rows of the run folder.
          input_length: for stablehlo: tokens of an input row; None takes INPUT_LENGTH.

        Returns:
          {written, step, files}; for ctranslate2 also {comparison}.

        Raises:
          UserError: `output` exists; a setting of another target; a package is missing.
        """
        from distill.export import targets
        from distill.inference import inputs

        folder = check_path_argument(output, "output")
        targets.check_settings(to, quantization, rows, input_length)
        targets.check_before_loading(to, folder)
        examples = inputs.of_objects(check_rows(rows)) if rows is not None else []
        if to == "ctranslate2" and rows is None:
            from distill.export.comparison import rows_to_compare

            examples = rows_to_compare(self._run.folder, None)
        return targets.export_run(self._run, to, folder, quantization, examples, input_length)


def load(run_dir: PathLike, progress: Say | None = None) -> Student:
    """Loads a trained student, of either engine, from its run folder.

    The student answers with the newest checkpoint or, if the run was trained with CHECKPOINT =
    'best', with the best one.

    Args:
      run_dir: the run folder, local or gs://.
      progress: takes lines of text, such as warnings about rows; None prints them on stderr.

    Raises:
      UserError: no run folder, or one that is damaged or not complete.
    """
    from distill.common.atomic import absolute
    from distill.inference.load import load_run

    folder, progress = check_path_argument(run_dir, "run_dir"), check_progress(progress)
    with _storage_errors(folder):
        run = load_run(folder, progress)
    # `evaluate` reads files of the folder: it is found when the working directory has changed.
    return Student(dataclasses.replace(run, folder=absolute(run.folder)), progress)


def train(
    gin_files: str | Sequence[str],
    overrides: Mapping[str, object] | Sequence[str] = (),
    *,
    run_dir: PathLike | None = None,
    engine: str | None = None,
    profile: bool = False,
    progress: Say | None = None,
) -> TrainResult:
    """Trains a student, or resumes a run, and scores it on its test rows.

    Args:
      gin_files: an experiment, and other gin files on top of it: paths, or names in gin/, such as
        "tickets_step_by_step". Later files win.
      overrides: values by macro, e.g. {"TRAIN_STEPS": 500}, or texts "NAME=value" as after --gin.
      run_dir: the run folder; None takes `runs/<experiment>-<overrides>`. A run that was
        interrupted is resumed; the results of a finished one are read.
      engine: "native" or "t5x"; None takes the macro ENGINE.
      profile: whether to measure where the time goes, and trace a few steps, into
        <run_dir>/profile (native engine).
      progress: takes lines of text; None prints them on stderr.

    Returns:
      The results.

    Raises:
      UserError: bad input of any kind: names the file and line, the macro or the row.
    """
    from distill.config import files
    from distill.config.resolve import resolve
    from distill.config.run_name import default_run_dir
    from distill.convert.sizes import adopt_for
    from distill.engines import early_checks

    names, texts = check_gin_files(gin_files), check_overrides(overrides)
    progress = check_progress(progress)
    check_flag(profile, "profile")
    if not names:
        listed = ", ".join(files.list_gin_files("experiments"))
        raise UserError(f"got no gin files, expected an experiment; available: {listed}")
    given = default_run_dir(names, texts, engine) if run_dir is None else run_dir
    folder = check_path_argument(given, "run_dir")
    resolved = resolve(names, texts, engine, adopt_for(folder))
    if run_dir is None:
        progress(f"the run folder is {folder}")
    with _storage_errors(folder, *map(str, resolved.macros.values())):
        if resolved.engine == "t5x":
            from distill.engines.t5x import train as t5x_train

            if profile:
                raise UserError(
                    "profile=True works only with the native engine; T5X has its own profiler"
                )
            prepared = early_checks.check_rows(resolved, folder)
            results = t5x_train.train(resolved, folder, progress, prepared)
        else:
            prepared = early_checks.check_rows(resolved, folder)
            from distill.engines import native

            results = native.train(resolved, folder, progress, profile, prepared)
    return to_result(folder, results)


def evaluate(
    run: PathLike | Student,
    *,
    rows: PathLike | Iterable[Mapping[str, object] | Example] | None = None,
    split: str | None = None,
    progress: Say | None = None,
) -> Evaluation:
    """Scores a trained student.

    Args:
      run: the run folder, or a loaded student.
      rows: labeled rows, or the path of a JSONL or CSV file of such; None scores a split.
      split: "test" (the default) or "validation" of the run's own data, which are read again.
      progress: takes lines of text; None prints them on stderr.

    Raises:
      UserError: rows and a split; no row with a gold label; data that have changed since the run
        was trained.
    """
    from distill.config import resolve
    from distill.inference import inputs
    from distill.inference.scoring import score_rows, score_split

    if rows is not None and split is not None:
        raise UserError("got both rows and split, expected only one of them")
    if split is not None and not (isinstance(split, str) and split in ("test", "validation")):
        raise UserError(f"got split={split!r}, expected 'test' or 'validation'")
    say = check_progress(progress)
    resolve.import_tasks()
    student = run if isinstance(run, Student) else load(run, progress)
    if rows is None:
        with _storage_errors():
            scores, predictions = score_split(student._run, split or "test")
    elif isinstance(rows, str | os.PathLike):
        path = check_path_argument(rows, "rows")
        with _storage_errors(path):
            source = inputs.of_file(path)
            examples = list(source.rows)
        scores, predictions = score_rows(student._run, examples, path, say, source)
    else:
        examples = inputs.of_objects(check_rows(rows))
        scores, predictions = score_rows(student._run, examples, "rows", say)
    return to_evaluation(scores, predictions)


@contextlib.contextmanager
def _storage_errors(*places: str) -> Iterator[None]:
    """Turns what a disk or a bucket refuses into a UserError; `places` are the paths in use."""
    from distill.common.disk import describe_failure

    try:
        yield
    except Exception as error:
        told = describe_failure(error, places)
        if told is None:
            raise
        raise UserError(told) from error
