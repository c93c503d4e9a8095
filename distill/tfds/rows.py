"""Rows of a TFDS dataset: its features by a mapping (`distill.data.mapping.row_mapping`).

Class labels become their names, and a class label of -1 becomes None.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill.data.examples import Example
from distill.data.mapping.label_names import LabelNames, class_names
from distill.data.mapping.row_mapping import (
    ANSWERED,
    RowMapping,
    Template,
    fill_fields,
    mapping_of,
)
from distill.errors import UserError, unknown
from distill.tfds.quiet import quiet_tfds

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_EXAMPLE = 'input="premise: {premise} hypothesis: {hypothesis}"'


@dataclasses.dataclass(frozen=True)
class TfdsRows:
    """Rows of one split, in the order of its files.

    Attributes:
      full_name: NAME/CONFIG/VERSION of the dataset.
      total: number of rows.
      rows: the rows, to be read once.
    """

    full_name: str
    total: int
    rows: Iterator[Example]


def open_tfds(
    name: str,
    split: str,
    mapping: RowMapping | None = None,
    data_dir: str | None = None,
    download: bool = False,
) -> TfdsRows:
    """Opens a split of a TFDS dataset.

    Rows have the ids `<name>/<split>/<row>` unless `mapping` has an id. Without `mapping` the
    dataset's own features `id`, `input`, `label` and `choices` are taken, as the builders of
    this project write them.

    Args:
      name: NAME, NAME/CONFIG or NAME/CONFIG:VERSION, e.g. "esnli:0.1.0" or "anli/r1".
      split: a split or a slice of one, e.g. "train" or "validation[:100]".
      mapping: which features fill a field of a row. Where `label` is a single class label and
        there is no `choices`, the names of the classes are the row's choices.
      data_dir: where TFDS keeps its datasets; None for its own default.
      download: download and build a dataset that is not built.

    Returns:
      The rows. While they are read, a row that is no Example or that repeats an id raises a
      UserError.

    Raises:
      UserError: a dataset that does not exist or is not built, an unknown split, or a template
        of unknown or unsuitable features.
    """
    with quiet_tfds():
        return _open(name, split, mapping, data_dir, download)


def _open(
    name: str,
    split: str,
    mapping: RowMapping | None,
    data_dir: str | None,
    download: bool,
) -> TfdsRows:
    builder = _builder(name, data_dir, download)
    splits = builder.info.splits
    try:
        total = splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise unknown("split", split, splits, f"--tfds {name}, split {split}") from error
    tensors = builder.info.features.get_tensor_info()
    to_example = _Mapper(dict(_leaves(builder.info.features, tensors)), name, split, mapping)
    records = builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()
    return TfdsRows(builder.info.full_name, total, _rows(records, to_example))


def _builder(name: str, data_dir: str | None, download: bool) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds

    form = "expected NAME, NAME/CONFIG or NAME/CONFIG:VERSION"
    if not download:
        form += " of a dataset that is built (tfds build)"
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if download:
            builder.download_and_prepare()
    except Exception as error:  # TFDS and its download code raise errors of many types
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"--tfds {name}: {reason}; {form}") from error
    if not builder.info.splits:
        raise UserError(f"--tfds {name}: nothing is built in {builder.data_dir}; {form}")
    return builder


def _rows(records: Iterator[Mapping[str, object]], to_example: _Mapper) -> Iterator[Example]:
    ids: set[str] = set()
    for index, record in enumerate(records):
        row = to_example(record, index)
        if row.id in ids:
            raise UserError(
                f"TFDS row {to_example.stem}/{index}: duplicate id {row.id!r}; map `id` to a "
                "feature that is unique per row"
            )
        ids.add(row.id)
        yield row


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A feature without features of its own.

    Attributes:
      names: of its classes; None if it is no class label.
      lists: depth of nested lists; 0 for a single value.
    """

    names: Sequence[str] | None
    lists: int


def _leaves(feature: object, tensors: Any, path: str = "") -> Iterator[tuple[str, _Leaf]]:
    """Features within a feature by their path; `tensors` holds their shapes."""
    inner: Any = getattr(feature, "feature", feature)  # of a Sequence
    if isinstance(tensors, Mapping):
        for name in tensors:
            yield from _leaves(inner[name], tensors[name], f"{path}/{name}" if path else name)
    else:
        yield path, _Leaf(getattr(inner, "names", None), len(tensors.shape))


# A text, None for no class label, or a list of these.
_Text = str | None | list["_Text"]


class _Mapper:
    """Makes the Example of a record."""

    def __init__(
        self,
        features: Mapping[str, _Leaf],
        name: str,
        split: str,
        mapping: RowMapping | None,
    ) -> None:
        self.stem = f"{name}/{split}"
        self._features = features
        self._split = re.split(r"\W", split)[0]
        if not mapping or not mapping.templates:
            own = [f"{field}={field}" for field in ANSWERED if field in features]
            if "input=input" not in own:
                raise UserError(
                    f"--tfds {name} has no feature `input` (it has {', '.join(features)}); use "
                    f"--field, e.g. {_EXAMPLE}"
                )
            mapping = dataclasses.replace(mapping_of(own), names=mapping.names if mapping else None)
        self._mapping = mapping
        for templates in mapping.templates.values():
            for template in templates:
                self._check(template)

    def _check(self, template: Template) -> None:
        """Refuses a feature that the dataset lacks, or whose values do not suit the field."""
        is_list = template.field == "choices"
        for slot in template.slots:
            if slot not in self._features:
                raise unknown("feature", slot, self._features, template.where)
            lists = self._features[slot].lists
            if lists != is_list:
                expected = "a list of strings" if is_list else "one string, number or label"
                raise UserError(
                    f"{template.where}: feature {slot} contains {'lists of ' * lists}single "
                    f"values, expected {expected}"
                )

    def __call__(self, record: Mapping[str, object], index: int) -> Example:
        """The Example of the record with this index in its split."""
        where = f"{self.stem}/{index}"

        def value_of(template: Template, slot: str) -> object:
            is_label = template.field == "label" and self._names(slot) is not None
            return int(self._value(record, slot)) if is_label else self._text(record, slot)

        # A class label of -1 within a longer text reads "None": annotate's stores are keyed by the
        # texts, so it has to stay what it was.
        values: dict[str, object] = {"split": self._split} | fill_fields(
            self._mapping,
            value_of,
            lambda _, slot: str(self._text(record, slot)),
            self._names,
            f"TFDS row {where}",
        )
        for field in ("id", "label"):  # records have no None: an empty text means none
            if not str(values.get(field) or "").strip():
                values.pop(field, None)
        values.setdefault("id", where)
        return Example.from_dict(values, f"TFDS row {where}")

    def _names(self, path: str) -> LabelNames | None:
        names = self._features[path].names
        return None if names is None else class_names(names)

    def _value(self, record: Mapping[str, object], path: str) -> Any:
        value: Any = record
        for name in path.split("/"):
            value = value[name]
        return value

    def _text(self, record: Mapping[str, object], path: str) -> _Text:
        return _to_text(self._value(record, path), self._features[path].names)


def _to_text(value: Any, names: Sequence[str] | None) -> _Text:
    """A value as text, lists item by item; names of class labels, None for no label."""
    if getattr(value, "ndim", 0):
        return [_to_text(item, names) for item in value]
    if names is not None:
        return names[int(value)] if value >= 0 else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
