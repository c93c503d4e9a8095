"""Rows to annotate: JSONL or CSV files, the released layout, TFDS datasets, generated tickets."""

from __future__ import annotations

import dataclasses
import functools
import operator
import re
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from distill.common.text_files import json_lines
from distill.data.examples import Example
from distill.data.released.rows import KINDS
from distill.data.tables import open_table, read_table
from distill.errors import UserError, unknown
from distill.tickets import generator

_FIELDS = ("id", "input", "label", "choices")
_IN_MEMORY = 64_000_000  # bytes of a file
_SLOT = re.compile(r"\{(\w+(?:/\w+)*)\}")


def from_file(path: epath.PathLike, split: str) -> Sequence[Example]:
    """Rows of a JSONL or CSV file.

    JSONL files of more than 64 MB stay on disk; to read a smaller one into memory saves
    reading it twice before the first request.
    """
    path = epath.Path(path)
    large = path.exists() and path.stat().length > _IN_MEMORY
    return (open_table if large else read_table)(path, split)


def from_released(raw_dir: epath.PathLike, dataset: str, split: str) -> list[Example]:
    """Rows of the released layout; completions need not be there.

    Raises:
      UserError: an unknown dataset, a missing file or a bad row.
    """
    if dataset not in KINDS:
        raise unknown("dataset", dataset, KINDS, "--dataset")
    path = epath.Path(raw_dir) / dataset / f"{dataset}_{split}.json"
    build = KINDS[dataset].row
    return [
        build(fields, f"{path}:{line}", f"{dataset}/{split}/{row}", split)[0]
        for row, (line, fields) in enumerate(json_lines(path))
    ]


def from_tickets(policy: str, rows: int, seed: int, split: str = "train") -> list[Example]:
    """Tickets of the embedded dataset with gold labels."""
    return generator.generate(policy, rows, seed, split)


def mapping_of(texts: Sequence[str]) -> dict[str, str]:
    """Field templates from `name=template` texts.

    Raises:
      UserError: no `=`, an unknown name, or no `input`.
    """
    fields = {}
    for text in texts:
        name, separator, template = text.partition("=")
        if not separator or not template.strip():
            raise UserError(f"--field: got {text!r}, expected e.g. label=label")
        if name not in _FIELDS:
            raise unknown("field", name, _FIELDS, "--field")
        fields[name] = template
    if "input" not in fields:
        raise UserError('--tfds needs --field, e.g. input="premise: {premise} hypothesis: {hyp}"')
    return fields


def from_tfds(
    name: str, split: str, fields: Mapping[str, str], data_dir: str | None = None
) -> list[Example]:
    """Rows of a TFDS dataset.

    Args:
      name: e.g. "esnli:0.1.0" or "anli/r1".
      split: of the dataset, e.g. "train" or "validation[:100]".
      fields: field of Example -> template of features, `{premise}`, or `{answers/text}` for
        one within another; a single feature may stand without braces. A class label
        becomes its name, and the names of `label` are the choices of the row; -1 (no
        label) becomes None. `choices` takes a list of texts.
      data_dir: where datasets are; None for TFDS's own folder.

    Returns:
      N rows with ids `<name>/<split>/<row>` unless `fields` has an id.

    Raises:
      UserError: no such dataset or split, a feature that it does not have, or one that is no
        text, number or class label.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        builder.download_and_prepare()
        data = builder.as_dataset(split=split, shuffle_files=False)
    except Exception as error:  # TFDS, and what it downloads with, have many
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"--tfds {name}, split {split}: {first}") from error
    features = dict(_leaves(builder.info.features, builder.info.features.get_tensor_info()))
    templates = {
        field: text if _SLOT.search(text) else f"{{{text}}}" for field, text in fields.items()
    }
    for field, template in templates.items():
        for slot in _SLOT.findall(template):
            if slot not in features:
                raise unknown("feature", slot, features, f"--field {field}={fields[field]}")
            lists = features[slot].lists
            if lists != (field == "choices"):
                raise UserError(
                    f"--field {field}={fields[field]}: feature {slot} holds "
                    f"{'lists of ' * lists}single values, expected "
                    + ("a list of texts" if field == "choices" else "one text, number or label")
                )
    rows: list[Example] = []
    seen: set[str] = set()
    for number, record in enumerate(data.as_numpy_iterator()):
        row_id = f"{name}/{split}/{number}"
        rows.append(_example(row_id, split, templates, record, features))
        if rows[-1].id in seen:
            raise UserError(
                f"TFDS row {row_id}: id {rows[-1].id!r} stands twice; use another field"
            )
        seen.add(rows[-1].id)
    return rows


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A feature that is no group: names of its classes (or None), and how many lists deep."""

    names: Sequence[str] | None
    lists: int


def _leaves(feature: object, info: object, path: str = "") -> Iterator[tuple[str, _Leaf]]:
    """Features within a feature by their path, `answers/text`; `info` has their shapes."""
    inner = getattr(feature, "feature", feature)  # of a Sequence
    if isinstance(info, Mapping):
        for name in info:
            yield from _leaves(inner[name], info[name], f"{path}/{name}" if path else name)
    else:
        yield path, _Leaf(getattr(inner, "names", None), len(info.shape))


def _example(
    row_id: str,
    split: str,
    templates: Mapping[str, str],
    record: Mapping[str, object],
    features: Mapping[str, _Leaf],
) -> Example:
    values: dict[str, object] = {"id": row_id, "split": re.split(r"\W", split)[0]}
    for field, template in templates.items():
        slots = _SLOT.findall(template)
        texts = {
            slot: _slot_text(
                functools.reduce(operator.getitem, slot.split("/"), record), features[slot]
            )
            for slot in slots
        }
        if template != f"{{{slots[0]}}}":
            values[field] = _SLOT.sub(lambda m, texts=texts: str(texts[m.group(1)]), template)
            continue
        values[field] = texts[slots[0]]
        if field == "label" and features[slots[0]].names:
            values.setdefault("choices", list(features[slots[0]].names))
    return Example.from_dict(values, f"TFDS row {row_id}")


def _slot_text(value: object, feature: _Leaf) -> str | list[str] | None:
    """A value as text: names of class labels, None for no label, lists item by item."""
    if getattr(value, "ndim", 0):
        return [_slot_text(item, feature) for item in value]
    if feature.names is not None:
        return feature.names[int(value)] if value >= 0 else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
