"""Records of Parquet and Arrow files, and the class labels of their schema."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from etils import epath

from distill.common.text_files import check_file, parse_json, reading
from distill.errors import UserError

_BATCH = 1024  # rows that are in memory at once
_BUFFER = 1 << 20  # bytes of a Parquet column; without a buffer, a whole row group is read at once
_FILE_FORMAT = b"ARROW1"  # Arrow files with random access; others are streams
_METADATA = b"huggingface"


def arrow_schema(path: epath.Path) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The names of the columns, and the names of the classes of those that are class labels.

    Class labels are those that Hugging Face's `datasets` describes in the schema; one within
    another column is named by its path, such as `answers/kind`.

    Raises:
      UserError: a missing or damaged file; pyarrow is not installed.
    """
    with _opened(path) as (schema, _):
        return list(schema.names), _class_names(schema.metadata or {})


def arrow_records(path: epath.Path, first: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and fields of each row of a Parquet or Arrow file.

    Args:
      path: the file, local or on gs://.
      first: the number of the first row.

    Raises:
      UserError: a missing or damaged file; pyarrow is not installed.
    """
    with _opened(path) as (_, batches):
        number = first
        for batch in batches:
            for fields in batch.to_pylist():
                yield number, fields
                number += 1


@contextlib.contextmanager
def _opened(path: epath.Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a file and its rows by the batch."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(
            f"{path} needs the package pyarrow: install it with `pip install pyarrow`, or convert "
            "the file to JSONL"
        ) from error
    check_file(path)
    with reading(path), path.open("rb") as file:
        try:
            if file.read(4) == b"PAR1":
                parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
                yield parquet.schema_arrow, parquet.iter_batches(batch_size=_BATCH)
            else:
                yield _arrow(pa, file)
        except pa.ArrowException as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise UserError(
                f"{path} is not a Parquet or Arrow file, or it is damaged ({reason})"
            ) from error


def _arrow(pa: Any, file: BinaryIO) -> tuple[Any, Iterator[Any]]:
    """Schema and batches of the formats of Arrow itself."""
    file.seek(0)
    is_file = file.read(len(_FILE_FORMAT)) == _FILE_FORMAT
    file.seek(0)
    if not is_file:
        stream = pa.ipc.open_stream(file)
        return stream.schema, _small(stream)
    reader = pa.ipc.open_file(file)
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    return reader.schema, _small(batches)


def _small(batches: Any) -> Iterator[Any]:
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH):
            yield batch.slice(start, _BATCH)


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Names of classes by column, from what `datasets` writes into a schema."""
    try:
        features = parse_json(metadata[_METADATA])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return dict(_labels_within(features, ""))


def _labels_within(feature: Any, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if isinstance(feature, list) and len(feature) == 1:
        yield from _labels_within(feature[0], path)
    if not isinstance(feature, Mapping):
        return
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        yield path, tuple(map(str, feature["names"]))
    elif isinstance(feature.get("_type"), str):
        yield from _labels_within(feature.get("feature"), path)
    else:
        for name, inner in feature.items():
            yield from _labels_within(inner, f"{path}/{name}" if path else name)
