"""Makes the fields of rows from records of files, as a mapping says."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence

from distill.common.text_files import parse_json
from distill.data.examples import FIELDS
from distill.data.mapping.label_names import LabelNames, class_names, to_text
from distill.data.mapping.row_mapping import (
    SEVERAL,
    RowMapping,
    Template,
    fill_fields,
    name_label,
)
from distill.errors import UserError, hint, misspelled, unknown


def to_json(value: object) -> object:
    """A value of a record as JSON can hold it; bytes that are not UTF-8 become base64."""
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, str | int | float | None) else to_text(value)


def extra_name(name: str, taken: Iterable[str]) -> str:
    """What a field of a record that no template consists of is called among a row's others.

    One that is named like a field of ours, or nearly, has `row_` before its name.
    """
    while name in FIELDS or name in taken or misspelled(name, FIELDS) is not None:
        name = f"row_{name}"
    return name


class RecordMapper:
    """Makes the fields of rows from the records of a file."""

    def __init__(
        self,
        mapping: RowMapping,
        columns: Sequence[str] | None = None,
        schema_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Checks the templates.

        Args:
          mapping: the user's.
          columns: the names that every record has; None if records have fields of their own.
          schema_names: names of the classes of fields that the file's schema says to be class
            labels.

        Raises:
          UserError: a template of a column that is not there.
        """
        self._mapping = mapping
        self._schema = {name: class_names(names) for name, names in (schema_names or {}).items()}
        self._single = {
            template.single
            for templates in mapping.templates.values()
            for template in templates
            if template.single is not None
        }
        self._never_seen = {
            slot: template
            for templates in mapping.templates.values()
            for template in templates
            for slot in template.slots
        }
        self._columns = columns
        self._fields: dict[str, None] = {}  # of the records so far, while templates wait for theirs
        for slot, template in self._never_seen.items():
            if columns is not None and slot not in columns and slot.split("/")[0] not in columns:
                raise unknown("column", slot, columns, template.where)

    def __call__(self, record: Mapping[str, object], where: str) -> dict[str, object]:
        """The fields of the row, for `distill.data.examples.row_of`.

        Args:
          record: what the file has of a row.
          where: what error messages call it.

        Raises:
          UserError: a field that is missing, or that does not fit its template; an empty input; a
            label without a name.
        """
        mapping = self._mapping
        if not mapping.templates:
            return self._unmapped(record, where)
        if self._never_seen:
            self._fields |= dict.fromkeys(map(str, record))

        def value_of(template: Template, slot: str) -> object:
            return self._value(record, template, slot, where)

        def text_of(template: Template, slot: str) -> str:
            return str(self._value(record, template, slot, where) or "")

        values = fill_fields(mapping, value_of, text_of, self._names, where)
        for template in mapping.templates.get("input", ()):
            if template.single is not None and not str(values.get("input") or "").strip():
                raise UserError(
                    f"{where}: {template.single!r} for {template.where} is empty, expected text"
                )
        values = {
            name: value
            for name, value in values.items()
            if name == "input" or value not in (None, "", [])
        }
        for name, value in record.items():
            if name not in self._single and value is not None:
                values[extra_name(name, values)] = to_json(value)
        return values

    def check_seen(self) -> None:
        """Refuses templates of fields that none of the records had.

        Raises:
          UserError: names the closest fields.
        """
        for slot, template in self._never_seen.items():
            if self._columns is None:
                fix = hint(slot, self._fields)
                raise UserError(f"{template.where}: no row has the field {slot!r}; {fix}")

    def _unmapped(self, record: Mapping[str, object], where: str) -> dict[str, object]:
        values = {
            name: to_json(value)
            for name, value in record.items()
            if name == "input" or to_text(value) is not None
        }
        for field in ("label", "teacher_label"):
            label_names = self._mapping.names or self._schema.get(field)
            if label_names is not None:
                label = name_label(values, field, values.pop(field, None), label_names, where)
                values |= {} if label is None else {field: label}
        return values

    def _value(
        self, record: Mapping[str, object], template: Template, slot: str, where: str
    ) -> object:
        """The value of a slot: a text, None, or a list where the field may be one."""
        try:
            value = look_up(record, slot)
        except KeyError:
            if template.field != "input":
                return None
            fix = hint(slot, map(str, record))
            if slot not in self._never_seen:
                fix = "earlier rows have it; write null if this one has none"
            raise UserError(
                f"{where}: the row has no field {slot!r} for {template.where}; {fix}"
            ) from None
        self._never_seen.pop(slot, None)
        if isinstance(value, list) and template.single is not None:
            if template.field == "choices":
                return [self._named(slot, to_text(each), where) for each in value]
            if template.field in SEVERAL:
                return [each for each in map(to_text, value) if each and each.strip()]
        if isinstance(value, Mapping | list):
            kind, example = "a list", f"{slot}/0"
            if isinstance(value, Mapping):
                kind, example = "an object", f"{slot}/{next(iter(value), 'NAME')}"
            raise UserError(
                f"{where}: {slot!r} for {template.where} is {kind}, expected a single value, such "
                f"as that of {example}"
            )
        if template.field == "choices" and template.single is not None:
            return _choices_of(value, template, slot, where)
        if template.field in ("label", "teacher_label") and template.single is not None:
            names = self._names(slot)
            return value if self._mapping.names or names else to_text(value)
        return self._named(slot, to_text(value), where)

    def _names(self, slot: str) -> LabelNames | None:
        """The names of a field's values in the schema, which has no places in lists."""
        return self._schema.get("/".join(part for part in slot.split("/") if not part.isdecimal()))

    def _named(self, slot: str, text: str | None, where: str) -> str | None:
        names = self._names(slot)
        return text if names is None else names.name(text, (), where)


def _choices_of(value: object, template: Template, slot: str, where: str) -> list[str] | None:
    """The list in a cell of text: a JSON list."""
    text = to_text(value)
    if text is None or not text.strip():
        return None
    try:
        found = parse_json(text)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise UserError(
            f"{where}: got {text[:80]!r} in {slot!r} for {template.where}, expected a JSON list of "
            'strings such as ["yes", "no"]'
        )
    return [str(each) for each in found]


def look_up(record: object, path: str) -> object:
    """The value of a field of a record; `a/b` is the field b within a.

    A number within a path is a place in a list (from 0); a name there collects that field of all
    items. A field whose own name contains slashes goes before.

    Raises:
      KeyError: there is no such field.
    """
    if isinstance(record, Mapping) and path in record:
        return record[path]
    value: object = record
    parts = path.split("/")
    for index, name in enumerate(parts):
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value[name]
        elif isinstance(value, list) and name.isdecimal():
            if int(name) >= len(value):
                return None
            value = value[int(name)]
        elif isinstance(value, list):
            rest = "/".join(parts[index:])
            return [look_up(item, rest) for item in value]
        else:
            raise KeyError(path)
    return value
