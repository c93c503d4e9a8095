"""A file of predictions that grows block by block and survives being killed.

    <output>                 one prediction a line, in the order of the input
    <output>.settings.json   what made it: parameters, configuration, input, settings

Only whole blocks are answered and appended, so that a file that was interrupted anywhere
ends with the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, TypedDict, final

from distill.common.atomic import write_json
from distill.common.disk import naming
from distill.common.phrases import number_of
from distill.common.progress import Progress, Say
from distill.common.text_files import parse_json
from distill.data.examples import Example
from distill.errors import UserError
from distill.inference.evaluator import Prediction

SETTINGS = ".settings.json"
PROGRESS = "answering the rows"  # what bars say
_DIGEST = re.compile("[0-9a-f]{64}")
_TAIL = 1 << 16  # bytes that are searched at once for the last line break


@final
class Answers(TypedDict):
    """What `distill predict` prints without a file."""

    predictions: list[dict[str, object]]


@final
class Written(TypedDict):
    """What `write_predictions` gives."""

    output: str
    rows: int
    resumed_at: int
    labeled: int
    correct: int


Answer = Callable[[Sequence[Example]], list[Prediction]]


def to_prediction_record(
    prediction: Prediction, row: Example | None = None
) -> Mapping[str, object]:
    """A prediction as a JSON object, without fields that do not apply.

    The row's extra fields follow; one that is named like a field of predictions has `row_` before
    its name.

    Args:
      prediction: the answer; with its probabilities, `probability` is that of the ranked label.
      row: the row that it answers, whose teacher label and rationale are added; None adds nothing.
    """
    fields = dict(vars(prediction))
    extra, probabilities = fields.pop("extra"), fields.pop("probabilities")
    by_label = probabilities or {}
    fields["probability"] = (
        round(by_label[prediction.ranked_label], 6) if prediction.ranked_label in by_label else None
    )
    fields["teacher_label"] = row.teacher_label if row else None
    fields["teacher_rationale"] = row.rationale if row else None
    record = {name: value for name, value in fields.items() if value is not None}
    for name, value in extra.items():
        while name in fields or (name.startswith("row_") and name in record):
            name = f"row_{name}"
        record[name] = value
    return record


def in_blocks(rows: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Consecutive blocks of `size` rows; the last may be shorter."""
    rows = iter(rows)
    while block := list(itertools.islice(rows, size)):
        yield block


def write_predictions(
    path: str,
    rows: Iterable[Example],
    total: int | None,
    answer: Answer,
    made_by: Mapping[str, object],
    block_rows: int,
    say: Say | None = None,
) -> Written:
    """Answers all rows into a file, or those that a file does not have yet.

    Each block is appended at once and flushed to the disk. A torn last line is cut off.

    Args:
      path: the file, on this machine.
      rows: the input, in its order; read once.
      total: number of rows, for the remaining time; None if unknown.
      answer: predictions of a block of rows, in their order.
      made_by: what decides the answers, compared with that of an older file.
      block_rows: rows a block; belongs to `made_by`.
      say: takes lines of progress, one per block; None shows them on stderr.

    Returns:
      {output, rows, resumed_at, labeled, correct}: rows in the file, rows it had before,
      rows with a gold label and how many of their answers are correct.

    Raises:
      UserError: a file that is not ours, of other settings or of other rows, or that
        another process is writing.
    """
    path = os.path.expanduser(path)
    made_by = {**made_by, "block_rows": block_rows}
    _check(path, made_by)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    # Outermost: to close the file writes what is left of a block.
    with naming(path), open(path, "a+b") as file, contextlib.ExitStack() as stack:
        _lock(file, path)
        write_json(path + SETTINGS, made_by)
        _cut_torn_line(file)
        file.seek(0)
        existing = _Lines(file, path)
        done, num_existing, bar = 0, 0, None
        for block in in_blocks(rows, block_rows):
            missing = len(block) - existing.compare(block)
            num_existing += len(block) - missing
            if missing:
                if bar is None:
                    bar = stack.enter_context(
                        Progress(total, PROGRESS, initial=num_existing, say=say, period=0)
                    )
                records = [dict(to_prediction_record(prediction)) for prediction in answer(block)][
                    -missing:
                ]
                _append(file, records)
                existing.count(records)
                bar.update(missing)
            done += len(block)
        existing.expect_end(done)
    return {
        "output": path,
        "rows": done,
        "resumed_at": num_existing,
        "labeled": existing.labeled,
        "correct": existing.correct,
    }


class _Lines:
    """The lines that a file has already, read along with the input."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path, self._number = file, path, 0
        self.labeled = self.correct = 0

    def compare(self, block: Sequence[Example]) -> int:
        """How many rows of the block, from its first, have their line."""
        for index, row in enumerate(block):
            line = self._file.readline()
            if not line:
                return index
            self._number += 1
            where = f"{self._path}:{self._number}"
            try:
                record = parse_json(line)
                same = (record["id"], record["input"]) == (row.id, row.input)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{where}: not a prediction record; {_FIX}") from None
            if not same:
                found = f"the input has row {row.id!r} there"
                if record["id"] == row.id:
                    found = "the text of this row is another one now"
                raise UserError(f"{where} answers row {record['id']!r}, but {found}; {_FIX}")
            self.count([record])
        return len(block)

    def count(self, records: Sequence[Mapping[str, object]]) -> None:
        """Adds records to the numbers of labeled and correct rows."""
        self.labeled += sum("correct" in record for record in records)
        self.correct += sum(bool(record.get("correct")) for record in records)

    def expect_end(self, rows: int) -> None:
        """Raises UserError if the file has more lines than the input has rows."""
        if self._file.readline():
            raise UserError(
                f"{self._path} has more lines than the input's {number_of(rows, 'row')}; {_FIX}"
            )


_FIX = "choose another --output, or delete the file"


def _check(path: str, made_by: Mapping[str, object]) -> None:
    """Refuses a file that something else made."""
    if "://" in path:
        raise UserError(
            f"--output {path}: expected a local file, because blocks are appended and flushed; "
            "copy the file afterwards"
        )
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):
        raise UserError(f"--output {path} is not a regular file; choose another --output")
    if not os.path.exists(path + SETTINGS):
        if not os.path.getsize(path):
            return  # nothing is lost
        raise UserError(
            f"{path} exists without {path}{SETTINGS}, so `distill predict` did not write it; {_FIX}"
        )
    try:
        with open(path + SETTINGS, "rb") as file:
            old = dict(parse_json(file.read()))
    except (ValueError, TypeError):
        raise UserError(f"{path}{SETTINGS} does not record how {path} was made; {_FIX}") from None
    if changed := changes(old, made_by):
        raise UserError(f"{path} was written with other settings ({changed}); {_FIX}")


def changes(old: Mapping[str, object], made_by: Mapping[str, object]) -> str:
    """How settings differ from older ones that were read from JSON; "" if they do not."""
    new = json.loads(json.dumps(made_by))
    return "; ".join(
        f"{name}: was {_shown(old.get(name))}, now {_shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _shown(setting: object) -> str:
    """A setting in words; digests are shortened."""
    if isinstance(setting, dict):
        return ", ".join(f"{name} {_shown(value)}" for name, value in setting.items())
    if isinstance(setting, str) and _DIGEST.fullmatch(setting):
        return setting[:12]
    return repr(setting)


def _lock(file: BinaryIO, path: str) -> None:
    """Keeps other processes from appending until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(
            f"another process is writing {path}; wait for it to finish, or stop it"
        ) from None


def _cut_torn_line(file: BinaryIO) -> None:
    """Cuts off what follows the last line break."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            end = start + place + 1
            break
        end = start
    file.truncate(end)


def _append(file: BinaryIO, records: Sequence[Mapping[str, object]]) -> None:
    """Appends lines, and returns when they are on the disk."""
    file.write(b"".join(json.dumps(r).encode() + b"\n" for r in records))
    file.flush()
    os.fsync(file.fileno())
