"""DataSpec: every setting that decides which examples and tokens a run sees."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Literal, overload

from distill.config import methods
from distill.errors import NotSet, UserError, check_types, unknown

METHODS = tuple(methods.METHODS)
LABEL_SOURCES = ("gold", "teacher")
RATIONALE_SOURCES = ("teacher", "shuffled", "random", "input")
VOCABULARIES = ("sentencepiece", "bytes", "words")
T5_VOCAB_SIZE = 32_128  # VOCAB_SIZE for T5's 32,100 pieces (`vocabularies.padded_size`)
MOST_TOKENS = 65_536  # of a row
# Settings whose defaults do not change the digests of earlier versions
_ADDED_LATER = ("rationale_source", "label_fraction")


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What is trained on; each field is set by the macro of the same name in capitals.

    Attributes:
      dataset: name of a registered dataset: tickets, jsonl, esnli, anli1, cqa, svamp, or your own.
      method: training method (one of METHODS). See docs/methods.md.
      label_source: labels to train and validate on, gold or the teacher's (one of LABEL_SOURCES).
      rationale_source: rationales to train on: the teacher's, or a control
        (one of RATIONALE_SOURCES). See docs/methods.md.
      num_labels: label budget: training and validation rows together; 0 takes all rows.
      label_fraction: instead of NUM_LABELS, the share of the rows with a label that makes up the
        budget; 1.0 takes all rows.
      validation_fraction: share of the budget that is held out for validation.
      data_seed: seed of the choice of NUM_LABELS rows and of validation rows, and of generated
        data.
      vocabulary: kind of vocabulary (one of VOCABULARIES).
      vocabulary_path: SentencePiece model file; required with VOCABULARY = 'sentencepiece'.
      input_length: tokens per encoder row, EOS included.
      target_length: tokens per decoder row, EOS included.
      label_prefix: text in front of the input of the label task.
      rationale_prefix: text in front of the input of the rationale task.
      dataset_options: settings of the dataset itself; the macros under "Datasets" fill it.

    Raises:
      UserError: a value outside its range, naming its macro.
    """

    dataset: str
    method: str
    label_source: str = "gold"
    rationale_source: str = "teacher"
    num_labels: int = 0
    label_fraction: float = 1.0
    validation_fraction: float = 0.1
    data_seed: int = 0
    vocabulary: str = "words"
    vocabulary_path: str = ""
    input_length: int = 64
    target_length: int = 32
    label_prefix: str = "[label] "
    rationale_prefix: str = "[rationale] "
    dataset_options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        options = self.dataset_options
        if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
            raise UserError(f"got DATASET_OPTIONS = {options!r}, expected a dict with string keys")
        for value, names, kind in (
            (self.method, METHODS, "method"),
            (self.label_source, LABEL_SOURCES, "label source"),
            (self.rationale_source, RATIONALE_SOURCES, "rationale source"),
            (self.vocabulary, VOCABULARIES, "vocabulary"),
        ):
            if value not in names:
                raise unknown(kind, value, names, f"macro {kind.upper().replace(' ', '_')}")
        if self.num_labels < 0:
            raise UserError(f"got NUM_LABELS = {self.num_labels}, expected 0 (all rows) or more")
        if not 0 < self.label_fraction <= 1:
            raise UserError(
                f"got LABEL_FRACTION = {self.label_fraction}, expected a number > 0 and <= 1"
            )
        if self.num_labels and self.label_fraction < 1:
            raise UserError(
                f"got both NUM_LABELS = {self.num_labels} and LABEL_FRACTION = "
                f"{self.label_fraction}, expected one of them: NUM_LABELS = 0 takes the share"
            )
        if self.data_seed < 0:
            raise UserError(f"got DATA_SEED = {self.data_seed}, expected an integer >= 0")
        if not 0 <= self.validation_fraction < 1:
            raise UserError(
                f"got VALIDATION_FRACTION = {self.validation_fraction}, expected a number >= 0 and "
                "< 1"
            )
        for macro in ("input_length", "target_length"):
            if getattr(self, macro) < 2:
                raise UserError(
                    f"got {macro.upper()} = {getattr(self, macro)}, expected at least 2 "
                    "(one token and EOS)"
                )
            if getattr(self, macro) > MOST_TOKENS:
                raise UserError(
                    f"got {macro.upper()} = {getattr(self, macro)}, expected at most "
                    f"{MOST_TOKENS:,}: attention memory grows with the square of the length"
                )
        if self.vocabulary == "sentencepiece" and not self.vocabulary_path:
            raise NotSet(
                "VOCABULARY = 'sentencepiece' needs VOCABULARY_PATH, the T5 model file "
                "(cc_all.32000.100extra.model); set it with --gin.VOCABULARY_PATH=..."
            )
        self._check_prefixes()

    def _check_prefixes(self) -> None:
        """Refuses prefixes that do not tell the label from the rationale."""
        before_label = self.label_prefix.strip()
        if self.about_method.rationale_first and not before_label:
            raise UserError(
                f"got LABEL_PREFIX = {self.label_prefix!r} with METHOD = {self.method!r}, expected "
                "a text: it separates the rationale from the label in the target"
            )
        two_tasks = len(self.tasks) > 1 and not self.is_joined
        if two_tasks and before_label == self.rationale_prefix.strip():
            raise UserError(
                f"got LABEL_PREFIX = {self.label_prefix!r} and RATIONALE_PREFIX = "
                f"{self.rationale_prefix!r}, expected two different texts: they tell the student "
                "which task to answer"
            )

    @property
    def about_method(self) -> methods.Method:
        """What METHOD names."""
        return methods.METHODS[self.method]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the method trains on, label first."""
        return self.about_method.tasks

    @property
    def is_joined(self) -> bool:
        """Whether label and rationale of a row are one sequence, each part with its EOS."""
        return self.about_method.is_joined

    @property
    def sequences_per_row(self) -> int:
        """Training sequences that a row has at most."""
        return 1 if self.is_joined else len(self.tasks)

    def prefix(self, task: str) -> str:
        """Text in front of the inputs of a task; a joined sequence has that of the label."""
        if task == "label" or self.is_joined:
            return self.label_prefix
        return self.rationale_prefix

    def answer(self, text: str) -> str:
        """The label in a decoded target; `single_task` writes it after its rationale."""
        if self.about_method.rationale_first:
            text = text.rpartition(self.label_prefix.strip())[2]
        return text.strip()

    def option(self, name: str, default: object = None) -> object:
        """A setting of the dataset itself, or `default`."""
        return self.dataset_options.get(name, default)

    @overload
    def number(self, name: str, whole: Literal[True]) -> int: ...

    @overload
    def number(self, name: str, whole: Literal[False] = False) -> float: ...

    def number(self, name: str, whole: bool = False) -> float:
        """A setting of the dataset itself that is a number.

        Raises:
          UserError: it is not set, or no (whole) number.
        """
        value = self.option(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (whole and not isinstance(value, int))
        ):
            kind = "an integer" if whole else "a number"
            raise UserError(f"got {name.upper()} = {value!r}, expected {kind}")
        return value

    def digest(self) -> str:
        """Hex digest of all settings but VOCABULARY_PATH, whose content `file_digests` covers.

        A run that resumes may read its vocabulary from its own folder. The contents of the other
        files are not covered either, but their paths are.
        """
        fields = dataclasses.asdict(self) | {"dataset_options": dict(self.dataset_options)}
        del fields["vocabulary_path"]
        for name in _ADDED_LATER:
            if fields[name] == getattr(DataSpec, name):  # the default
                del fields[name]
        text = json.dumps(fields, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
