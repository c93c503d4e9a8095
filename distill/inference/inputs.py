"""The rows that `distill predict` answers: from arguments, a file, stdin or TFDS."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from distill.common.digests import sha256
from distill.common.text_files import check_file, json_object
from distill.data.examples import Example
from distill.data.tables import open_table
from distill.errors import UserError
from distill.tfds import rows as tfds_rows

_TABLES = (".csv", ".jsonl", ".json")  # names of files that are read as what they say


@dataclasses.dataclass(frozen=True)
class RowSource:
    """Rows in their order.

    Attributes:
      rows: the rows, to be read once.
      total: how many there are; None if that shows only at their end.
      described: what tells these rows from others, as JSON.
    """

    rows: Iterable[Example]
    total: int | None
    described: Mapping[str, object]


def of_texts(texts: Sequence[str]) -> RowSource:
    """Each text is a row, `text/0` and so on."""
    rows = [Example(id=f"text/{index}", input=text) for index, text in enumerate(texts)]
    return RowSource(rows, len(rows), {"texts": len(rows)})


def of_file(path: str) -> RowSource:
    """Rows of a JSONL file, which stay on disk, of a CSV file, which are held in memory, or texts.

    `.csv`, `.jsonl` and `.json` say what a file is; any other is read as stdin is, JSONL if its
    first line that is not blank starts with `{`, else a text a line. All rows are checked before
    the first is answered.

    Raises:
      UserError: see `distill.data.tables.read_table`; a file of texts that is empty or not UTF-8.
    """
    file = epath.Path(path)
    if file.suffix.lower() not in _TABLES:
        check_file(file)
        with file.open("rb") as lines:
            first = next(_not_blank(lines), None)
        if first is None:
            raise UserError(f"{path} is empty; expected JSON objects or texts, one a line")
        if not _is_json(first[1]):
            total = sum(1 for _ in _texts_of(file))  # the check of all lines
            described = {"sha256": sha256(path), "file": "texts"}
            return RowSource(_texts_of(file), total, described)
    rows = open_table(path, "test")
    return RowSource(rows, len(rows), {"sha256": sha256(path)})


def of_stdin(lines: Iterable[bytes]) -> RowSource:
    """Rows of a stream, JSONL if its first line that is not blank starts with `{`, else texts.

    Lines are read as they are needed. Rows without an id get `stdin/<row>`, from 0.

    Raises:
      UserError: no rows (at once), or a bad line (when it is reached).
    """
    numbered = _not_blank(lines)
    first = next(numbered, None)
    if first is None:
        raise UserError("stdin is empty; expected JSON objects or texts, one a line")
    is_json = _is_json(first[1])
    rows = _parsed(itertools.chain([first], numbered), is_json, "stdin", "stdin")
    return RowSource(rows, None, {"stdin": "jsonl" if is_json else "texts"})


def _not_blank(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbers (from 1) and contents of the lines that are not blank, without a byte order mark."""
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield number, text


def _is_json(line: bytes) -> bool:
    return line.lstrip().startswith(b"{")


def _texts_of(file: epath.Path) -> Iterator[Example]:
    with file.open("rb") as lines:
        yield from _parsed(_not_blank(lines), False, str(file), file.stem)


def _parsed(
    numbered: Iterable[tuple[int, bytes]], is_json: bool, name: str, stem: str
) -> Iterator[Example]:
    for index, (number, line) in enumerate(numbered):
        where = f"{name}:{number}"
        if is_json:
            fields = json_object(line, where)
            fields.setdefault("id", f"{stem}/{index}")
            yield Example.from_dict(fields, where)
            continue
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 ({error.reason}); save it as UTF-8") from error
        yield Example(id=f"{stem}/{index}", input=text)


def of_tfds(
    name: str, split: str, data_dir: str | None = None, mapping: Mapping[str, str] | None = None
) -> RowSource:
    """Rows of a TFDS dataset that is built already; nothing is downloaded.

    Args:
      name: NAME/CONFIG:VERSION.
      split: a split or a slice of one, e.g. "test[:100]".
      data_dir: the TFDS folder; None takes TFDS's own default.
      mapping: field of Example -> template of features, see `distill.tfds.rows`; None
        takes the project's own features (id, input, label, choices).

    Raises:
      UserError: an unknown dataset, split or feature.
    """
    rows = tfds_rows.open_tfds(name, split, mapping, data_dir)
    described = {"tfds": rows.full_name, "split": split, "fields": dict(mapping or {})}
    return RowSource(rows.rows, rows.total, described)
