"""A user's rows from a file of any format (`distill.data.formats`), mapped to Examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from distill.common.hashing import digest63
from distill.common.pair_tables import PairTables
from distill.common.text_files import parse_json
from distill.data.examples import Example, check_name, row_of, same_id
from distill.data.formats.csv_rows import check_input, csv_records, decoded
from distill.data.formats.record_files import (
    DELIMITERS,
    RecordFile,
    empty_to_none,
    is_indexable,
    kind_of,
    open_records,
)
from distill.data.mapping.record_mapper import RecordMapper
from distill.data.mapping.row_mapping import RowMapping
from distill.data.row_file import index_jsonl
from distill.errors import UserError

UNMAPPED = RowMapping()
# Digests of the first rows that repeat one; more than one row, as texts may share a digest.
_FIRST_TWICE = """
SELECT key FROM (
  SELECT key, value, row_number() OVER (PARTITION BY key ORDER BY value) AS n FROM ids
) WHERE n = 2 ORDER BY value LIMIT 1000
"""


def read_table(
    path: epath.PathLike,
    split: str,
    labels: Sequence[str] | None = None,
    mapping: RowMapping = UNMAPPED,
    kind: str | None = None,
) -> list[Example]:
    """Rows of a file, or of a folder of Parquet or Arrow files, in memory.

    Args:
      path: the file or folder, local or on gs://.
      split: the split its rows belong to; which files of a folder are read.
      labels: closed label set of the whole file; None for free-text labels.
      mapping: which fields of a record fill which field of a row; without one, they have the
        same names.
      kind: a format of `record_files.FORMATS`; None goes by the name of the file.

    Raises:
      UserError: a missing or empty file, a bad header or a bad row, named by `file:line`.
    """
    return _all(open_records(path, split, kind), split, labels, mapping)


def rows_of_csv(
    name: str, lines: Iterable[bytes], split: str, mapping: RowMapping, kind: str
) -> list[Example]:
    """Rows of a stream of CSV or TSV.

    Args:
      name: what error messages and ids call it.
      lines: of the stream.
      split: the split its rows belong to; ids have none.
      mapping: which columns fill which field of a row.
      kind: "csv" or "tsv".

    Raises:
      UserError: no rows; a bad header or row, named by `name:line`.
    """
    line, header, read = csv_records(name, decoded(name, lines), DELIMITERS[kind])
    path = epath.Path(name)
    records = RecordFile(path, kind, header, {}, lambda: empty_to_none(read), f"{name}:{line}")
    return _all(records, split, None, mapping, f"{name}/")


def _all(
    records: RecordFile,
    split: str,
    labels: Sequence[str] | None,
    mapping: RowMapping,
    prefix: str | None = None,
) -> list[Example]:
    """The rows, whose ids differ."""
    numbers: dict[str, int] = {}
    rows: list[Example] = []
    for number, row in _rows(records, split, labels, mapping, prefix):
        if row.id in numbers:
            raise same_id(records.where(number), row.id, numbers[row.id], records.unit)
        numbers[row.id] = number
        rows.append(row)
    return rows


def open_table(
    path: epath.PathLike,
    split: str,
    labels: Sequence[str] | None = None,
    mapping: RowMapping = UNMAPPED,
    kind: str | None = None,
) -> Sequence[Example]:
    """Rows of a file like `read_table`, but those of JSONL are checked and stay on disk."""
    kind = kind or kind_of(path)
    if not is_indexable(path, kind or ""):
        return read_table(path, split, labels, mapping, kind)
    mapper = RecordMapper(mapping) if mapping else None
    return index_jsonl(path, split, labels, mapper)


def stream_table(
    path: epath.PathLike,
    split: str,
    labels: Sequence[str] | None = None,
    mapping: RowMapping = UNMAPPED,
    labels_name: str = "LABELS",
) -> Iterator[Example]:
    """Rows of a file like `read_table`, one after the other; their ids are compared by digests.

    Args:
      path: see `read_table`.
      split: see there.
      labels: see there.
      mapping: see there.
      labels_name: the macro or flag that sets `labels`, for error messages.

    Raises:
      UserError: as of `read_table`; an id that occurs twice is found after the last row.
    """
    records = open_records(path, split)
    ids = PairTables("ids")
    for number, row in _rows(records, split, labels, mapping, labels_name=labels_name):
        ids.add("ids", digest63(row.id), number)
        yield row
    twice = ids.keys(_FIRST_TWICE)
    if not twice:
        return
    numbers: dict[str, int] = {}
    for number, row in _rows(records, split, labels, mapping, labels_name=labels_name):
        if row.id in numbers:
            raise same_id(records.where(number), row.id, numbers[row.id], records.unit)
        if digest63(row.id) in twice:
            numbers[row.id] = number


def _rows(
    records: RecordFile,
    split: str,
    labels: Sequence[str] | None,
    mapping: RowMapping,
    prefix: str | None = None,
    labels_name: str = "LABELS",
) -> Iterator[tuple[int, Example]]:
    """Number and row of each record; `prefix` begins the ids of rows that have none.

    Raises:
      UserError: no rows, or a bad one.
    """
    closed, count = list(labels or ()), 0
    prefix = f"{records.stem}/{split}/" if prefix is None else prefix
    mapper = mapper_of(records, mapping)
    for count, (number, record) in enumerate(records.read(), start=1):
        where = records.where(number)
        fields = fields_of(records.kind, mapper, record, where)
        row_id = f"{prefix}{count - 1}"
        yield number, row_of(fields, where, row_id, split, closed, labels_name)
    if not count:
        raise records.no_rows()
    if mapper is not None:
        mapper.check_seen()


def mapper_of(records: RecordFile, mapping: RowMapping) -> RecordMapper | None:
    """What makes fields of rows from records; None where they are that already.

    Raises:
      UserError: columns without `input`, or with misspelled names, if nothing is mapped; a template
        of a column that is not there.
    """
    columns = records.columns
    if not mapping.templates and columns:
        for name in columns:
            check_name(name, records.header or str(records.path), "column")
        check_input(columns, records.header or str(records.path), DELIMITERS.get(records.kind))
    if not mapping and not columns:
        return None
    return RecordMapper(mapping, columns or None, records.schema_names)


def fields_of(
    kind: str, mapper: RecordMapper | None, record: Mapping[str, object], where: str
) -> dict[str, object]:
    """The fields of a row from its record."""
    fields = dict(record) if mapper is None else mapper(record, where)
    if kind in DELIMITERS and isinstance(fields.get("choices"), str):
        fields["choices"] = _list(str(fields["choices"]), where)
    return fields


def _list(cell: str, where: str) -> object:
    """The JSON value of a cell of `choices`."""
    try:
        return parse_json(cell)
    except ValueError as error:
        raise UserError(
            f"{where}: got {cell!r} for `choices`, expected a JSON list of strings such as "
            '["yes", "no"]'
        ) from error
