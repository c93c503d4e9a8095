"""A trained student, of either engine's run, that answers new rows, block after block."""

from __future__ import annotations

import collections
import functools
import hashlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from etils import epath

from distill.common.progress import to_stderr
from distill.data.counts.data_line import input_lines
from distill.data.datasets import without_mark
from distill.data.examples import Example
from distill.data.mapping.input_forms import PLAIN
from distill.errors import UserError
from distill.inference.closed_set import labels_outside
from distill.inference.evaluator import Prediction
from distill.inference.load import LoadedRun, load_run
from distill.student.beam import LENGTH_PENALTY, check_beam
from distill.training import run_folder

_NAMED_AT_MOST = 3  # unknown words, of a whole run


class Predictor:
    """Labels, and rationales on request, for rows that the student has not seen."""

    def __init__(
        self,
        run: epath.PathLike | LoadedRun,
        beam: int = 1,
        length_penalty: float = LENGTH_PENALTY,
        rationale: bool = False,
        progress: Callable[[str], None] = to_stderr,
        probabilities: bool = False,
        answer: str = "decode",
        model_parallel: int | None = None,
    ) -> None:
        """Loads the chosen checkpoint of a run.

        Args:
          run: the run folder, local or gs://, or what `load_run` made of it.
          beam: prefixes of a beam search; 1 decodes greedily.
          length_penalty: of the beam search.
          rationale: whether to decode rationales as well.
          progress: takes lines of text.
          probabilities: whether to give those of the closed set.
          answer: one of `evaluator.ANSWERS`.
          model_parallel: see `load.load_run`.

        Raises:
          UserError: see `load.load_run` and `check_beam`; a rationale of a student that
            was not trained on the rationale task.
        """
        check_beam(beam, length_penalty)
        run = run if isinstance(run, LoadedRun) else load_run(run, progress, model_parallel)
        self._folder = run.folder
        self._config, self._params = run.config, run.params
        method = self._config.data.method
        if rationale and "rationale" not in self._config.data.tasks:
            raise UserError(
                f"--rationale: the student of {run.folder} was trained with METHOD = {method!r}, "
                "which has no rationale task; expected a run with METHOD = 'step_by_step' or "
                "'answer_first'"
            )
        if rationale and beam > 1 and self._config.data.is_joined:
            progress(
                f"--beam={beam} searches the labels; METHOD = {method!r} writes each rationale "
                "after its label, and rationales are decoded greedily"
            )
        self._rationale, self._probabilities = rationale, probabilities
        self._progress = progress
        self._unknown: dict[str, str] = {}  # the first unknown words, and the ids of their rows
        self._outside: collections.Counter[str] = collections.Counter()
        self._correct = run.assets.correct(self._config.data.dataset)
        self._evaluator = run.evaluator(beam, length_penalty, answer)
        self._own_choices = answer == "rank" or run.assets.input_form != PLAIN
        self._settings: dict[str, object] = {
            "beam": beam,
            "length_penalty": length_penalty if beam > 1 else None,
            "rationale": rationale,
        }
        if answer != "decode":
            self._settings["answer"] = answer
        if run.assets.input_form != PLAIN:
            self._settings["input_form"] = run.assets.input_form

    @functools.cached_property
    def made_by(self) -> dict[str, object]:
        """What decides the answers: parameters and configuration, by digest, and the settings."""
        configuration = (self._folder / run_folder.CONFIG).read_bytes()
        return {
            "parameters": _digest(self._params),
            "configuration": hashlib.sha256(configuration).hexdigest()[:16],
            **self._settings,
        }

    def __call__(self, rows: Sequence[Example]) -> list[Prediction]:
        """Answers in the rows' order; no teacher is asked.

        A word that the vocabulary does not have is read as unknown; `data_lines` names some.
        """
        for row in rows:
            if len(self._unknown) == _NAMED_AT_MOST:
                break
            text = without_mark(self._evaluator.input_of(row), self._evaluator.eos_mark)
            word = self._evaluator.vocabulary.uncovered(text)
            if word is not None:
                self._unknown.setdefault(word, row.id)
        if self._correct is not None:
            known = self._evaluator.labels, self._correct, self._own_choices
            self._outside.update(labels_outside(rows, *known))
        return self._evaluator.texts(self._params, rows, self._rationale, self._probabilities)

    def data_lines(
        self, source: str = "", blank_lines: int = 0, new: int | None = None
    ) -> list[str]:
        """What became of the inputs of all rows so far: a line, and warnings.

        Args:
          source: where the rows are from and how they were read.
          blank_lines: lines that were skipped.
          new: rows that had no answer before; None for all.
        """
        counts = self._evaluator.input_counts
        return input_lines(
            self._config.data,
            counts,
            missing_choices=self._evaluator.missing_choices,
            unknown_words=self._unknown,
            source=source,
            blank_lines=blank_lines,
            labels_outside=dict(self._outside.most_common()),
            again=0 if new is None else counts.sequences - new,
        )


def _digest(params: dict) -> str:
    """Hex digest of the names and values of all parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
