"""The rows that `distill predict` answers: from arguments, a file, stdin or TFDS."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from distill.common.digests import sha256, sha256_text
from distill.common.hashing import digest64
from distill.common.text_files import BOM, check_file, json_object, not_utf8
from distill.data.examples import Example, row_of, same_id
from distill.data.formats import record_files
from distill.data.formats.encodings import open_bytes
from distill.data.formats.headers import is_column, is_header, looks_like_header
from distill.data.mapping.record_mapper import RecordMapper
from distill.data.mapping.row_mapping import RowMapping
from distill.data.mapping.unused import unused_fields
from distill.data.tables import UNMAPPED, open_table, rows_of_csv
from distill.errors import UserError
from distill.tfds import rows as tfds_rows

FORMATS = {**record_files.FORMATS, "text": "one text per line"}
_LOOK_AHEAD = 5  # lines after the first that tell a table from texts


@dataclasses.dataclass(frozen=True)
class RowSource:
    """Rows in their order.

    Attributes:
      rows: the rows, to be read once.
      total: how many there are; None if that shows only at their end.
      described: what tells these rows from others, as JSON.
      name: where they are from and how they were read, for people.
      blank_lines: numbers of lines that were skipped so far because they are blank.
    """

    rows: Iterable[Example]
    total: int | None
    described: Mapping[str, object]
    name: str
    blank_lines: list[int] = dataclasses.field(default_factory=list)


def of_texts(texts: Sequence[str]) -> RowSource:
    """Each text is a row, `text/0` and so on.

    Raises:
      UserError: a blank text, or one that is not UTF-8; several texts of one word each, which are
        mostly one text without its quotes.
    """
    for index, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"text {index + 1} on the command line is blank, expected text")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UserError(f"text {index + 1} on the command line is not UTF-8")
        if os.path.isfile(text):
            raise UserError(
                f"{text} is a file, expected a text: use --input={text} to label its rows"
            )
    if len(texts) > 1 and all(len(text.split()) == 1 for text in texts):
        raise UserError(
            f"got {len(texts)} texts of one word each: quote a text of several words, "
            f'"{" ".join(texts)}", or put texts of one word into a file, one per line '
            "(--input=FILE, or --input=- for stdin)"
        )
    rows = [Example(id=f"text/{index}", input=text) for index, text in enumerate(texts)]
    return RowSource(rows, len(rows), {"texts": len(rows)}, "the command line")


def of_objects(rows: Iterable[str | Mapping[str, object] | Example]) -> list[Example]:
    """Texts, mappings with the fields of a row, and Examples, as Examples.

    A row without an id gets `row/<index>`, from 0.

    Raises:
      UserError: a blank text, a bad field, or an object of another kind, by its index.
    """
    examples = []
    for index, row in enumerate(rows):
        where = f"row {index}"
        if isinstance(row, Example):
            row = _fields_of(row, where)
        elif isinstance(row, str):
            row = {"input": str(row)}
        if not isinstance(row, Mapping):
            raise UserError(
                f"{where}: got {type(row).__name__}, expected a string, a mapping with the "
                "field `input`, or an Example"
            )
        for name in row:
            if not isinstance(name, str):
                raise UserError(f"{where}: got the field {name!r}, expected a string as its name")
        examples.append(Example.from_dict({"id": f"row/{index}", **row}, where))
    return examples


def _fields_of(row: Example, where: str) -> dict[str, object]:
    """The fields of an Example, whose types nobody has checked."""
    try:
        fields = dataclasses.replace(row, choices=()).to_dict()
        return fields | {"choices": row.choices}
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: got an Example with bad fields ({error})") from error


def of_file(path: str, kind: str | None = None, mapping: RowMapping = UNMAPPED) -> RowSource:
    """Rows of a JSONL file, which stay on disk, of another format, held in memory, or texts.

    The suffix says what a file is (`record_files.kind_of`); if it is unknown, the first line does,
    as for stdin. All rows are checked before the first is answered.

    Args:
      path: the file, or a folder of Parquet or Arrow files.
      kind: one of FORMATS, which overrides all that.
      mapping: which fields of the file fill a field of a row.

    Raises:
      UserError: see `distill.data.tables.read_table`; a file of texts that is empty or not UTF-8.
    """
    file = epath.Path(path)
    how = hint = ""
    if not file.is_dir():
        check_file(file)
    kind = kind or record_files.kind_of(file, None)
    if kind is None:
        with open_bytes(file) as lines:
            numbered = _not_blank(lines, [])
            first = next(numbered, None)
            if first is None:
                raise UserError(f"{path} is empty; expected JSON objects or texts, one per line")
            kind, how = _guess_kind([first], numbered, path, mapping)
            if kind in record_files.DELIMITERS and not is_header(first[1]):
                hint = f"; if {path} has one text per line, leave out --field"
    name = f"{path} ({FORMATS[kind]}{how})"
    if kind == "text":
        _check_no_mapping(mapping, str(path))
        total = sum(1 for _ in _texts_of(file, []))  # the check of all lines
        if not total:
            raise UserError(f"{path} has no texts; expected one text per line")
        blank: list[int] = []
        texts = {"sha256": sha256(path), "file": "texts"}
        return RowSource(_texts_of(file, blank), total, texts, name, blank)
    try:
        rows = open_table(path, "test", mapping=mapping, kind=kind)
    except UserError as error:
        raise UserError(f"{error}{hint}") from error
    files = record_files.files_of(path, "test")
    digest = sha256(path) if files == [file] else sha256_text(*map(sha256, files))
    described: dict[str, object] = {"sha256": digest}
    if mapping:
        described["fields"] = mapping.described
    return RowSource(rows, len(rows), described, name)


def _check_no_mapping(mapping: RowMapping, name: str) -> None:
    """Raises UserError if there is a mapping: texts have no fields."""
    if mapping:
        raise UserError(
            f"{name} is read as one text per line, which has no fields for --field or "
            "--label_names; give its format with --format"
        )


def labeled_of_file(path: str, mapping: RowMapping = UNMAPPED) -> RowSource:
    """Rows of a file of which some have a gold label; see `of_file`.

    Raises:
      UserError: a bad file; no row with a label.
    """
    source = of_file(path, mapping=mapping)
    rows = list(source.rows)
    check_labeled(rows, path, "map the one that holds it with --field label=FIELD")
    return dataclasses.replace(source, rows=rows)


def check_labeled(
    rows: Sequence[Example], name: str, how: str = "rename the one that holds it"
) -> None:
    """Refuses rows of which none has a gold label.

    Args:
      rows: the rows.
      name: of their file, or what else they are called.
      how: what the user should do with another field that holds the label.

    Raises:
      UserError: no row has a label.
    """
    if all(row.label is None for row in rows):
        problem = f"{name}: no row has a `label`, so there is nothing to score"
        raise UserError(problem + unused_fields(rows, how))


def of_stdin(
    lines: Iterable[bytes], kind: str | None = None, mapping: RowMapping = UNMAPPED
) -> RowSource:
    """Rows of a stream.

    Its first line that is not blank tells what it is: JSONL if it starts with `{`, CSV if it is a
    header with a column `input`, else texts. Lines are read as they are needed, those of CSV at
    once. Rows without an id get `stdin/<row>`, from 0, and texts `stdin:<line>`, from 1.

    Args:
      lines: of the stream.
      kind: one of FORMATS, whatever the first line is.
      mapping: which fields of the stream fill a field of a row; CSV and TSV then need no column
        `input`.

    Raises:
      UserError: a format of files only, no rows (at once), or a bad line (when it is reached).
    """
    blank: list[int] = []
    lines = iter(lines)
    numbered = _not_blank(lines, blank)
    first = next(numbered, None)
    if first is None:
        raise UserError("stdin is empty; expected JSON objects or texts, one per line")
    head, how = [first], ""
    if kind is None:
        kind, how = _guess_kind(head, numbered, "stdin", mapping)
    name = f"stdin ({FORMATS[kind]}{how})"
    described: dict[str, object] = {"stdin": "texts" if kind == "text" else kind}
    if mapping:
        described["fields"] = mapping.described
    if kind in record_files.DELIMITERS:
        content = itertools.chain([b"\n"] * (first[0] - 1), [first[1]], lines)
        table = rows_of_csv("stdin", content, "test", mapping, kind)
        return RowSource(table, len(table), described, name)
    if kind == "text":
        _check_no_mapping(mapping, "stdin")
        rows = _text_rows(itertools.chain(head, numbered), "stdin")
        return RowSource(rows, None, described, name, blank)
    if kind != "jsonl":
        raise UserError(
            f"stdin cannot be {FORMATS[kind]}; save it to a file, and give --input=FILE"
        )
    rows = _json_rows(itertools.chain(head, numbered), "stdin", mapping)
    return RowSource(rows, None, described, name)


def _guess_kind(
    head: list[tuple[int, bytes]],
    numbered: Iterator[tuple[int, bytes]],
    name: str,
    mapping: RowMapping,
) -> tuple[str, str]:
    """A name of FORMATS for rows, by the first line; and what to add to it in a message.

    `head` holds the first line; lines of `numbered` that are read ahead are appended to it.

    Raises:
      UserError: the first line seems to be the header of a table without the column `input`.
    """
    number, line = head[0]
    if line.lstrip().startswith(b"{"):
        return "jsonl", ""
    if mapping.templates:
        return "tsv" if b"\t" in line else "csv", ""
    if is_header(line):
        return "csv", ""
    head += itertools.islice(numbered, _LOOK_AHEAD)
    if doubt := looks_like_header(line, [other for _, other in head[1:]]):
        raise UserError(
            f"{name}:{number}: the first line {doubt}: name the column of the texts `input` and "
            "separate columns by commas, or give --format=text to read every line as a text"
        )
    first = line.decode("utf-8", "replace").strip()
    return "text", f", the first is {first!r}" if is_column(first) else ""


def _not_blank(lines: Iterable[bytes], blank: list[int]) -> Iterator[tuple[int, bytes]]:
    """Numbers (from 1) and contents of the lines that are not blank, without a byte order mark.

    The numbers of the others go into `blank`.
    """
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(BOM) if number == 1 else line
        if text.strip():
            yield number, text
        else:
            blank.append(number)


def _texts_of(file: epath.Path, blank: list[int]) -> Iterator[Example]:
    with open_bytes(file) as lines:
        for row in _text_rows(_not_blank(lines, blank), str(file)):
            yield dataclasses.replace(row, id=f"{file.name}:{row.id.rpartition(':')[2]}")


def _json_rows(
    numbered: Iterable[tuple[int, bytes]], name: str, mapping: RowMapping
) -> Iterator[Example]:
    lines: dict[int, int] = {}  # of each id, by its hash
    mapper = RecordMapper(mapping) if mapping else None
    for index, (number, line) in enumerate(numbered):
        where = f"{name}:{number}"
        if not index:
            record_files.check_no_array(line, where)
        fields = json_object(line, where)
        if mapper is not None:
            fields = mapper(fields, where)
        row = row_of(fields, where, f"{name}/{index}", "test", ())
        if (key := digest64(row.id)) in lines:
            raise same_id(where, row.id, lines[key])
        lines[key] = number
        yield row
    if mapper is not None:
        mapper.check_seen()


def _text_rows(numbered: Iterable[tuple[int, bytes]], name: str) -> Iterator[Example]:
    """A row a line; its id is `<name>:<line>`."""
    for number, line in numbered:
        where = f"{name}:{number}"
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise not_utf8(where, line) from error
        if not text:
            raise UserError(f"{where}: the line is blank, expected text")
        yield Example(id=where, input=text)


def of_tfds(
    name: str, split: str, data_dir: str | None = None, mapping: RowMapping | None = None
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
    described = {
        "tfds": rows.full_name,
        "split": split,
        "fields": mapping.described if mapping else {},
    }
    return RowSource(rows.rows, rows.total, described, f"TFDS {rows.full_name}, {split}")
