"""Predictions as a folder of parts, which several processes write without talking to each other.

    <folder>/
      manifest.json               what makes the answers, the files of rows, and all parts
      part-00000-of-00012.jsonl   one prediction a line; appears when it is complete
      digests/                    of the parts (`distill.inference.part_digests`)

Part i belongs to process i mod N. A part appears whole, so a process that was killed redoes at most
the part that it was about, with the same bytes, and N may differ from start to start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TypedDict, final

import numpy as np
from etils import epath

from distill.common.atomic import atomic_file, write_bytes, write_json
from distill.common.digests import sha256
from distill.common.disk import disk_errors
from distill.common.hashing import digest64
from distill.common.own_files import check_own, writing_own
from distill.common.phrases import number_of
from distill.common.progress import Progress, to_stderr
from distill.common.safe_points import safe_point
from distill.common.text_files import parse_json
from distill.data.mapping.record_mapper import RecordMapper
from distill.data.mapping.row_mapping import RowMapping
from distill.errors import UserError
from distill.inference import part_digests
from distill.inference.predictions import PROGRESS, Answer, changes, in_blocks, to_prediction_record
from distill.inference.shards import Part, Shards, read_part

MANIFEST = "manifest.json"
_COMMAND = "distill data merge"
_FIX = "choose another --output_dir, or delete the folder"
_FIX_MERGE = (
    "copy the folder again, or delete it and run the `distill predict --output_dir` command again"
)


@final
class WrittenParts(TypedDict):
    """What `write_parts` gives."""

    output_dir: str
    rows: int
    parts: int
    complete: int
    written: int


@final
class Merged(TypedDict):
    """What `merge` gives."""

    output: str | None
    rows: int
    parts: int
    labeled: int
    correct: int
    same_ids: int
    without_digest: int


def write_parts(
    folder: epath.PathLike,
    shards: Shards,
    answer: Answer,
    made_by: Mapping[str, object],
    sizes: Mapping[str, int],
    process: tuple[int, int] = (0, 1),
    mapping: RowMapping | None = None,
) -> WrittenParts:
    """Answers the parts of one process that the folder does not have yet.

    All rows of these parts are checked before the first is answered.

    Args:
      folder: takes the parts, local or gs://.
      shards: all parts.
      answer: predictions of a block of rows, in their order.
      made_by: what decides the answers; compared with that of an older folder.
      sizes: {part_rows, block_rows}: rows a part, and rows that are answered together.
      process: index of the process and number of processes.
      mapping: which fields of a line fill a field of a row; None where they have these names.

    Raises:
      UserError: a folder that is not ours, or of other rows or settings; a complete part that has
        changed since it was written; a bad row.
    """
    folder = epath.Path(folder).expanduser()
    index, count = process
    with disk_errors(folder, "choose another --output_dir"):
        mine = shards.parts[index::count]
        name = f" of process {index} of {count}" if count > 1 else ""
        is_new = _is_new(folder)
        if is_new:  # with a bad row, the folder stays free for other settings
            _check_rows(mine, sum(part.rows for part in mine), name, mapping)
        _claim(folder, {**made_by, **sizes}, shards)
        present = {path.name for path in folder.iterdir()}
        _check_complete(folder, [part.name for part in mine if part.name in present])
        own = [part for part in mine if part.name not in present]
        rows = sum(part.rows for part in own)
        if not is_new:
            _check_rows(own, rows, name, mapping)
        with Progress(rows, f"{PROGRESS}{name}") as bar:
            for part in own:
                lines = []
                mapper = RecordMapper(mapping) if mapping else None
                for block in in_blocks(read_part(part, mapper), sizes["block_rows"]):
                    lines += [
                        json.dumps(dict(to_prediction_record(each))).encode() + b"\n"
                        for each in answer(block)
                    ]
                    bar.update(len(block))
                content = b"".join(lines)
                part_digests.write_digest(folder / part.name, content)
                write_bytes(folder / part.name, content)
        complete = count_complete(folder, shards)
    return {
        "output_dir": str(folder),
        "rows": shards.rows,
        "parts": len(shards.parts),
        "complete": complete,
        "written": len(own),
    }


def _check_complete(folder: epath.Path, names: Sequence[str]) -> None:
    """Compares complete parts with their digests."""
    written = part_digests.written_digests(folder)
    with Progress(len(names), "checking complete parts", leave=False, delay=1.0) as bar:
        for name in names:
            safe_point()
            if name in written:
                part_digests.check_digest(folder / name, sha256(folder / name))
            bar.update()
    if unchecked := len(set(names) - written):
        to_stderr(part_digests.warning(unchecked))


def count_complete(folder: epath.PathLike, shards: Shards) -> int:
    """The number of parts that a folder has, of any process."""
    present = {path.name for path in epath.Path(folder).iterdir()}
    return sum(part.name in present for part in shards.parts)


def _is_new(folder: epath.Path) -> bool:
    """Whether the folder has no manifest yet.

    Raises:
      UserError: it has files all the same.
    """
    if (folder / MANIFEST).exists():
        return False
    if folder.is_dir() and any(not each.name.startswith(".") for each in folder.iterdir()):
        raise UserError(
            f"{folder} has files but no {MANIFEST}, so `distill predict` did not write it; {_FIX}"
        )
    return True


def _claim(folder: epath.Path, made_by: dict[str, object], shards: Shards) -> None:
    """Writes the manifest, or compares it with the one that is there."""
    made_by = made_by | {"inputs": shards.files}
    path = folder / MANIFEST
    if _is_new(folder):
        folder.mkdir(parents=True, exist_ok=True)
        parts = [{"name": part.name, "rows": part.rows} for part in shards.parts]
        write_json(path, {**made_by, "parts": parts})
    manifest = _read_manifest(folder, _FIX)  # another process may have written it first
    del manifest["parts"]
    old, new = manifest.pop("inputs", None), made_by.pop("inputs")
    if changed := changes(manifest, made_by):
        raise UserError(f"{folder} was written with other settings ({changed}); {_FIX}")
    if old != new:
        changed = next(each for each in (*_files(new), "") if each not in _files(old))
        raise UserError(
            f"{folder} was written for other rows{f': {changed} is new' if changed else ''}; {_FIX}"
        )


def _files(inputs: object) -> list[str]:
    """Name and digest of each file of a manifest."""
    files = inputs if isinstance(inputs, list) else []
    return [f"{file['file']} (sha256 {file['sha256'][:16]})" for file in files]


def _read_manifest(folder: epath.Path, fix: str) -> dict:
    """The manifest of a folder; `fix` is what the message says of a damaged one."""
    path = folder / MANIFEST
    if not path.exists():
        found = f"has no {MANIFEST}" if folder.is_dir() else "is a file"
        found = found if folder.exists() else "does not exist"
        raise UserError(
            f"{folder} {found}; expected a folder that `distill predict --output_dir` writes"
        )
    with contextlib.suppress(ValueError, KeyError, TypeError):
        manifest = parse_json(path.read_bytes())
        lists = {"parts": ("name", "rows"), "inputs": ("file", "sha256")}
        for name, fields in lists.items():
            for each, field in itertools.product(manifest[name], fields):
                _ = each[field]
        return dict(manifest)
    raise UserError(f"{path} is not the manifest of a folder of predictions; {fix}")


def _check_rows(parts: Sequence[Part], rows: int, name: str, mapping: RowMapping | None) -> None:
    """Reads the rows once, so that a bad one is found before the student answers for hours."""
    mapper = RecordMapper(mapping) if mapping else None
    with Progress(rows, f"checking the rows{name}", leave=False, delay=1.0) as bar:
        for part in parts:
            for _ in read_part(part, mapper):
                safe_point()
                bar.update()
    if mapper is not None and parts:
        try:
            mapper.check_seen()
        except UserError as error:  # rows of other processes may have the field
            to_stderr(f"warning: among the rows{name or ' that were read'}: {error}")


def merge(folder: epath.PathLike, output: epath.PathLike | None = None) -> Merged:
    """Checks that each row has its answer once, and joins the parts in the order of the rows.

    Args:
      folder: what `write_parts` wrote.
      output: takes the predictions of all parts; None only checks.

    Raises:
      UserError: parts that are missing, or are not as they were written; an output that this
        command did not write.
    """
    folder = epath.Path(folder).expanduser()
    parts = _read_manifest(folder, _FIX_MERGE)["parts"]
    present = {path.name for path in folder.iterdir()}
    missing = [part["name"] for part in parts if part["name"] not in present]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"{folder}: {len(missing):,} of {len(parts):,} parts are missing ({shown}); to write "
            "them, run the `distill predict` command of each --process_id that has not ended, or "
            "the same command without --num_processes and --process_id"
        )
    seen, written = _Seen(), part_digests.written_digests(folder)
    with contextlib.ExitStack() as stack:
        file: IO | None = None
        if output is not None:
            output = epath.Path(output).expanduser()
            check_own(output, "--output", _COMMAND)
            stack.enter_context(disk_errors(output, "choose another --output"))
            stack.enter_context(writing_own(output, _COMMAND))
            file = stack.enter_context(atomic_file(output, "wb"))
        total = sum(part["rows"] for part in parts)
        bar = stack.enter_context(Progress(total, "merging" if file else "checking", delay=1.0))
        for part in parts:
            path, digest = folder / part["name"], hashlib.sha256()
            for line in seen.lines(path, part["rows"]):
                digest.update(line)
                if file is not None:
                    file.write(line)
                bar.update()
            if part["name"] in written:
                part_digests.check_digest(path, digest.hexdigest())
    return {
        "output": None if output is None else str(output),
        "rows": len(seen.ids),
        "parts": len(parts),
        "labeled": seen.labeled,
        "correct": seen.correct,
        "same_ids": seen.same_ids(),
        "without_digest": sum(part["name"] not in written for part in parts),
    }


@dataclasses.dataclass
class _Seen:
    """What the lines of all parts hold: 8 bytes of each row are kept."""

    ids: array = dataclasses.field(default_factory=lambda: array("Q"))
    labeled: int = 0
    correct: int = 0

    def lines(self, path: epath.Path, rows: int) -> Iterator[bytes]:
        """The lines of a part.

        Raises:
          UserError: a line that is no prediction; another number of lines than `rows`.
        """
        fix = "delete this file and run the same `distill predict` command again"
        number = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                safe_point()
                try:
                    record = parse_json(line)
                    self.ids.append(digest64(record["id"]))
                    is_whole = line.endswith(b"\n") and "prediction" in record
                except (ValueError, KeyError, TypeError, AttributeError):
                    is_whole = False
                if not is_whole:
                    raise UserError(f"{path}:{number}: not a prediction record; {fix}")
                self.labeled += "correct" in record
                self.correct += bool(record.get("correct"))
                yield line
        if number != rows:
            raise UserError(f"{path} has {number_of(number, 'line')}, expected {rows:,}; {fix}")

    def same_ids(self) -> int:
        """How many rows have an id that an earlier row has."""
        return len(self.ids) - len(np.unique(np.frombuffer(self.ids, np.uint64)))
