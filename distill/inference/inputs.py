"""The rows that `distill predict` answers: from arguments, a file, stdin or TFDS."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from distill.common.text_files import json_object
from distill.data.examples import Example
from distill.data.tables import open_table
from distill.errors import UserError, unknown

_BLOCK = 1 << 20  # bytes hashed at once
_FORM = "expected NAME, NAME/CONFIG or NAME/CONFIG:VERSION of data that are built (tfds build)"


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
    """Rows of a JSONL file, which stay on disk, or of a CSV file, which are held in memory.

    All rows are checked before the first is answered.

    Raises:
      UserError: see `distill.data.tables.read_table`.
    """
    rows = open_table(path, "test")
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return RowSource(rows, len(rows), {"sha256": digest.hexdigest()})


def of_stdin(lines: Iterable[bytes]) -> RowSource:
    """Rows of a stream, JSONL if its first line that is not blank starts with `{`, else texts.

    Lines are read as they are needed. Rows without an id get `stdin/<row>`, from 0.

    Raises:
      UserError: no rows (at once), or a bad line (when it is reached).
    """
    numbered = ((n, line) for n, line in enumerate(lines, start=1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise UserError("stdin is empty; expected JSON objects or texts, one a line")
    first = first[0], first[1].removeprefix(b"\xef\xbb\xbf")
    is_json = first[1].lstrip().startswith(b"{")
    rows = _parsed(itertools.chain([first], numbered), is_json)
    return RowSource(rows, None, {"stdin": "jsonl" if is_json else "texts"})


def _parsed(numbered: Iterable[tuple[int, bytes]], is_json: bool) -> Iterator[Example]:
    for index, (number, line) in enumerate(numbered):
        where = f"stdin:{number}"
        if is_json:
            fields = json_object(line, where)
            fields.setdefault("id", f"stdin/{index}")
            yield Example.from_dict(fields, where)
            continue
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 ({error.reason})") from error
        yield Example(id=f"stdin/{index}", input=text)


def of_tfds(
    name: str, split: str, data_dir: str | None, template: str = "", label: str = ""
) -> RowSource:
    """Rows of a TFDS data set that is built already; nothing is downloaded.

    Args:
      name: NAME/CONFIG:VERSION.
      split: a split or a slice of one, e.g. "test[:100]".
      data_dir: the TFDS folder; None takes TFDS's own default.
      template: makes a row's input of its fields, e.g. "premise: {premise}"; "" takes the
        project's own fields (input, label, choices).
      label: the field of the gold label; "" for none.

    Raises:
      UserError: an unknown data set, split or field.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except Exception as error:  # TFDS has many for one thing: there is no such data set
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"--tfds {name}: {reason or type(error).__name__}; {_FORM}") from error
    splits = builder.info.splits
    if not splits:
        raise UserError(f"--tfds {name}: nothing is built in {builder.data_dir}; {_FORM}")
    try:
        total = splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise unknown("split", split, splits, "--tfds_split") from error
    row = _RowOf(builder.info, f"{name}/{split}", template, label)
    records = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
    described = {"tfds": builder.info.full_name, "split": split, "template": template}
    rows = (row(record, index) for index, record in enumerate(records))
    return RowSource(rows, total, described | {"label_field": label})


class _RowOf:
    """Makes the example of a TFDS record."""

    def __init__(self, info: Any, stem: str, template: str, label: str) -> None:
        self._features, self._stem = dict(info.features.items()), stem
        self._own = not template  # then the fields are those of an Example
        self._parts = _split_template(template or "{input}")
        fix = "--input_template" if template else f"{info.name}, which then needs --input_template"
        for _, field in self._parts:
            if field is not None and field not in self._features:
                raise unknown("field", field, self._features, fix)
        if label and label not in self._features:
            raise unknown("field", label, self._features, "--label_field")
        self._label = label or ("label" if self._own and "label" in self._features else "")

    def __call__(self, record: Mapping[str, Any], index: int) -> Example:
        where = f"{self._stem}/{index}"
        row_id = self._text(record, "id", where) if "id" in self._features else ""
        texts = (
            literal + (self._text(record, field, where) if field is not None else "")
            for literal, field in self._parts
        )
        fields: dict[str, object] = {"id": row_id or where, "input": "".join(texts)}
        if self._label:
            fields["label"] = self._text(record, self._label, where) or None
        if self._own and "choices" in self._features:
            fields["choices"] = [choice.decode("utf-8") for choice in record["choices"]]
        return Example.from_dict(fields, where)

    def _text(self, record: Mapping[str, Any], field: str, where: str) -> str:
        """A field as text; the name of a class, -1 (no label) as none."""
        value, feature = record[field], self._features[field]
        if isinstance(value, bytes):
            return value.decode("utf-8")
        if isinstance(value, Mapping) or getattr(value, "shape", ()):
            raise UserError(f"{where}: field {field!r} holds no single text or number")
        if hasattr(feature, "int2str"):
            return feature.int2str(int(value)) if value >= 0 else ""
        return str(value.item() if hasattr(value, "item") else value)


def _split_template(template: str) -> list[tuple[str, str | None]]:
    """Pairs of a literal text and the field after it (None at the end).

    Raises:
      UserError: no field, or anything but plain names in braces.
    """
    example = '"premise: {premise} hypothesis: {hypothesis}"'
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            f"--input_template {template!r}: {error}; expected one such as {example}"
        ) from error
    fields = [field for _, field, _, _ in parts if field is not None]
    plain = all(field.isidentifier() for field in fields)
    if not fields or not plain or any(spec or conversion for _, _, spec, conversion in parts):
        raise UserError(
            f"--input_template {template!r}: expected names of fields in braces, such as {example}"
        )
    return [(literal, field) for literal, field, _, _ in parts]
