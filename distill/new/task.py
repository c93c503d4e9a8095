"""The folder of a task: rows to train and test on, and the files that `distill new` writes."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from distill.common.overlap import overlap, plain_text
from distill.common.phrases import have, number_of, share
from distill.config.data import DataSpec
from distill.config.resolve import absolute_path
from distill.data.examples import Example, to_line
from distill.data.mapping.row_mapping import RowMapping
from distill.data.tables import stream_table
from distill.data.vocabularies import Vocabulary
from distill.errors import UserError
from distill.new import describe, settings
from distill.new.measure import Measured, exemplars, held_out, key_of, measure, shared_inputs
from distill.new.render import make_variable, one_line, render
from distill.new.shape import Shape

_FEWEST = 10  # rows, so that there is a row to train on, to validate on and to test on
_TEST_FRACTION, _MOST_TEST = 0.2, 1_000
_MOST_EXEMPLARS, _WITHOUT_LABELS = 8, 4
_PREFIX = max(DataSpec.label_prefix, DataSpec.rationale_prefix, key=len)
_SHAPED = ("id", "input", "choices")  # what the Makefile maps of new rows, which have no label


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line says; each attribute is the flag of the same name.

    Attributes:
      folder: the folder to make.
      input: the file of rows, or a folder of Parquet or Arrow files.
      test_input: a file of test rows; "" holds a fifth of the rows out.
      field: NAME=TEMPLATE texts; () finds the fields by itself.
      label_names: names of labels that are numbers.
      labels: the closed set; () takes it from the rows.
      vocabulary_path: a SentencePiece model; "" for bytes.
      init_from: a checkpoint to start from.
    """

    folder: str
    input: str
    test_input: str = ""
    field: tuple[str, ...] = ()
    label_names: str = ""
    labels: tuple[str, ...] = ()
    vocabulary_path: str = ""
    init_from: str = ""

    @property
    def command(self) -> str:
        """The command that says the same."""
        arguments = [self.folder, f"--input={self.input}"]
        arguments += [f"--field={text}" for text in self.field]
        for flag in ("test_input", "label_names", "vocabulary_path", "init_from"):
            if getattr(self, flag):
                arguments.append(f"--{flag}={getattr(self, flag)}")
        if self.labels:
            arguments.append(f"--labels={','.join(self.labels)}")
        return " ".join(("distill new", *map(shlex.quote, arguments)))


class Created(TypedDict):
    """What `create` made.

    Attributes:
      commands: the targets of the Makefile that can be run as they are, in their order.
      notes: what the user should know or change.
    """

    folder: str
    fields: dict[str, str]
    label_names: str
    labels: list[str]
    rows: dict[str, int]
    input_length: int
    target_length: int
    notes: list[str]
    commands: list[str]


class Task:
    """The rows of a task, read once to measure them and once to write them."""

    def __init__(
        self,
        request: Request,
        name: str,
        shape: Shape,
        mapping: RowMapping,
        kind: str,
        vocabulary: Vocabulary,
    ) -> None:
        """Reads nothing.

        Args:
          request: the command line.
          name: of the task.
          shape: the templates, as texts.
          mapping: the same, as the readers take them.
          kind: of the vocabulary, "bytes" or "sentencepiece".
          vocabulary: of the student.
        """
        self._request, self._name, self._shape = request, name, shape
        self._kind, self._vocabulary = kind, vocabulary
        labels = request.labels or (mapping.names.names if mapping.names else ())
        self._rows = functools.partial(
            stream_table, labels=labels, mapping=mapping, labels_name="--labels"
        )
        self._measured, self._test = Measured(), Measured()
        self._held_out: frozenset[int] = frozenset()  # keys of the test rows

    def measure(self) -> None:
        """Reads all rows once.

        Raises:
          UserError: what their reader refuses; too few rows.
        """
        request, measured = self._request, self._measured
        measure(self._rows(request.input, "train"), self._vocabulary, _PREFIX, measured)
        if measured.rows < _FEWEST:
            raise UserError(
                f"{request.input} has {number_of(measured.rows, 'row')}, expected at least "
                f"{_FEWEST}: some are held out for validation and for the test"
            )
        if request.test_input:
            rows = self._rows(request.test_input, "test")
            measure(rows, self._vocabulary, _PREFIX, self._test)
        elif measured.keys:
            self._held_out = held_out(measured, _TEST_FRACTION, _MOST_TEST)
            if not self._held_out:
                raise UserError(
                    f"{request.input}: all labeled rows have the same input; is it the right field?"
                )

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The closed set; () for open answers."""
        closed = self._measured.closed
        more = sorted({*self._test.labels} - {*closed})
        return (*closed, *more) if closed else ()

    def write(self, scratch: Path, folder: Path) -> Created:
        """Writes all files into a folder.

        Args:
          scratch: where they are written.
          folder: what it will be called.
        """
        counts, shown = self._write_rows(scratch)
        measured = self._measured
        lengths = settings.lengths_of(measured, self._vocabulary, self._kind)
        shared: dict[str, object] = {"name": self._name, "source_name": self._source_name}
        experiment = "experiment_init_from.gin" if self._request.init_from else "experiment.gin"
        prompt = settings.prompt_values(self._name, self.labels, measured, shown)
        schedule = settings.schedule(measured, lengths, self._vocabulary)
        gin = {**shared, **self._gin_values(counts, lengths, schedule)}
        for name, template, values in (
            (
                "README.md",
                "README.md",
                {**shared, **self._readme_values(counts, schedule, bool(shown))},
            ),
            ("Makefile", "Makefile", {**shared, **self._make_values(counts)}),
            ("data.gin", "data.gin", gin),
            ("experiment.gin", experiment, gin),
            ("prompt.toml", "prompt.toml", prompt),
        ):
            (scratch / name).write_text(render(template, values), encoding="utf-8")
        notes = describe.describe_rows(measured, self.labels, lengths, self._kind, self._shape)
        if seen := shared_inputs(self._test, measured):
            notes.append(
                f"{share(seen, self._test.labeled, 'test row')} {have(seen)} the input of a row "
                "that the student trains on"
            )
        commands = ["annotate", "train"]  # without labels, there is nothing to check before
        if counts["labeled"]:
            commands = ["check", *commands]
        if counts["test"]:
            commands += ["evaluate", "predict"]
        return {
            "folder": str(folder),
            "fields": dict(self._shape.fields),
            "label_names": self._shape.label_names,
            "labels": list(self.labels),
            "rows": {name: counts[name] for name in ("train", "test")},
            "input_length": lengths.input,
            "target_length": lengths.target,
            "notes": notes,
            "commands": commands,
        }

    def _write_rows(self, scratch: Path) -> tuple[dict[str, int], list[Example]]:
        """Writes train.jsonl and test.jsonl.

        Returns:
          How many rows each has, and the exemplars, which are like none of the test rows.
        """
        counts = {"train": 0, "test": 0, "labeled": 0}
        candidates = {
            row_id: plain_text(row.input)
            for each in self._measured.candidates.values()
            for _, row_id, row in each
        }
        barred: set[str] = set()
        paths = {split: scratch / f"{split}.jsonl" for split in ("train", "test")}
        with (
            paths["train"].open("w", encoding="utf-8") as train,
            paths["test"].open("w", encoding="utf-8") as test,
        ):
            for split, row in self._each():
                counts[split] += 1
                counts["labeled"] += split == "train" and row.label is not None
                if split == "test":
                    plain = plain_text(row.input)
                    barred |= {key for key, text in candidates.items() if overlap(text, plain)}
                (train if split == "train" else test).write(to_line(self._plain(row, split)))
        if not counts["test"]:
            paths["test"].unlink()
        per_label, most = _WITHOUT_LABELS, _WITHOUT_LABELS
        if self.labels:
            per_label = max(1, min(3, _MOST_EXEMPLARS // len(self.labels)))
            most = max(_MOST_EXEMPLARS, min(len(self.labels), 2 * _MOST_EXEMPLARS))
        shown = exemplars(self._measured, per_label, most, lambda row: row.id not in barred)
        return counts, [self._plain(row, "train") for row in shown]

    def _each(self) -> Iterator[tuple[str, Example]]:
        for row in self._rows(self._request.input, "train"):
            yield ("test" if key_of(row) in self._held_out else "train"), row
        if self._request.test_input:
            for row in self._rows(self._request.test_input, "test"):
                yield "test", row

    def _plain(self, row: Example, split: str) -> Example:
        """The row without the choices that LABELS gives."""
        choices = () if self.labels and {*row.choices} <= {*self.labels} else row.choices
        return dataclasses.replace(row, choices=choices, split=split)

    def _gin_values(
        self, counts: dict[str, int], lengths: settings.Lengths, schedule: settings.Schedule
    ) -> dict[str, object]:
        """The values of data.gin and experiment.gin."""
        request, has_gold = self._request, counts["labeled"] > 0
        num_labels, num_labels_comment = settings.num_labels(counts["labeled"])
        return {
            "labels": repr(self.labels),
            "test_file": "TEST_FILE = 'test.jsonl'" if counts["test"] else f"# {describe.NO_TEST}",
            "vocabulary": self._vocabulary_lines(),
            "input_length": lengths.input,
            "input_comment": lengths.input_comment,
            "target_length": lengths.target,
            "target_comment": lengths.target_comment,
            "validation_fraction": settings.validation_fraction(counts["train"]),
            "num_labels": num_labels,
            "num_labels_comment": num_labels_comment,
            "label_source": repr("gold" if has_gold else "teacher"),
            "label_source_comment": "'gold', or 'teacher' for the labels of the teacher"
            if has_gold
            else "No training row has a gold label",
            "time": schedule.time,
            "train_steps": schedule.steps,
            "warmup_steps": schedule.steps // 4,
            "batch_size": schedule.batch_size,
            "init_from": repr(absolute_path(request.init_from)) if request.init_from else "",
        }

    def _vocabulary_lines(self) -> str:
        request = self._request
        if not request.init_from:
            path = absolute_path(request.vocabulary_path) if request.vocabulary_path else ""
            return settings.vocabulary_lines(self._kind, path, self._vocabulary)
        lines = ["# The checkpoint sets what is required here", "VOCAB_SIZE = %gin.REQUIRED"]
        if request.vocabulary_path:
            path = absolute_path(request.vocabulary_path)
            lines += ["VOCABULARY = 'sentencepiece'", f"VOCABULARY_PATH = {path!r}"]
        else:
            lines.append("VOCABULARY = %gin.REQUIRED")
        return "\n".join(lines)

    @property
    def _source_name(self) -> str:
        return one_line(os.path.basename(self._request.input.rstrip("/")))

    def _readme_values(
        self, counts: dict[str, int], schedule: settings.Schedule, shown: bool
    ) -> dict[str, object]:
        """The values of README.md alone; `shown` is whether the prompt has exemplars."""
        has_test = counts["test"] > 0
        start = "It also says how to start from Flan-T5."
        trained = f"it is small and\ntrains for about {schedule.time}"
        if self._request.init_from:
            start = "The student starts from INIT_FROM."
            trained = f"it\ntrains for {schedule.steps} steps"
        return {
            "command": one_line(self._request.command),
            "start": start,
            "trained": trained,
            "found": describe.describe_found(
                self._shape.fields,
                self._shape.label_names,
                self.labels,
                self._measured,
                self._source_name,
            ),
            "train_rows": f"{counts['train']:,}",
            "evaluate_rows": describe.TEST_OR_INPUT if has_test else f"; {describe.NO_TEST}",
            "check_when": "" if counts["labeled"] else "; run it after `make annotate MODEL=NAME`",
            "prompt_step": describe.FILL_IN if shown else describe.NO_EXEMPLARS,
            "rehearsed": "the labels are copies of the gold\nlabels"
            if counts["labeled"]
            else "the label is made up,\nas no row has a gold label",
            "predict_line": (describe.PREDICT_TEST if has_test else describe.PREDICT_INPUT).format(
                describe.NEW_ROWS.format(self._source_name)
            ),
            "test_row_line": f"\n| `test.jsonl` | {counts['test']:,} test rows |"
            if has_test
            else "",
        }

    def _make_values(self, counts: dict[str, int]) -> dict[str, object]:
        """The values of the Makefile alone."""
        fields, names = self._shape.fields, self._shape.label_names
        shape = [f"--field={name}={text}" for name, text in fields.items() if name in _SHAPED]
        if not fields and names:
            shape.append(f"--label_names={names}")
        gold = "--field=label='$(LABEL_FIELD)'" if fields else ""
        if "label" in fields:
            named = [f"--label_names={names}"] if names else []
            gold = make_variable([f"--field=label={fields['label']}", *named])
        has_test = counts["test"] > 0
        test = " --input=test.jsonl --split=test" if has_test else ""
        return {
            "shape": make_variable(shape),
            "gold": gold,
            "check_prompt": f"\t$(DISTILL) annotate --check=prompt.toml{test}",
            "evaluate": f"\t{describe.EVALUATE if has_test else f'$(error {describe.NO_TEST})'}",
            "predict": f"\t{describe.PREDICT if has_test else f'$(error {describe.NO_NEW_ROWS})'}",
        }
