"""How records of other shapes become rows: a template for each field, and names for labels.

A mapping gives fields of an `Example` templates of a record's own fields:

    input      premise: {premise} hypothesis: {hypothesis}
    label      gold
    choices    answers/text
    rationale  explanation_1, explanation_2

A template without braces is the name of one field, and `answers/text` is the field `text` within
`answers`. Files of all formats and TFDS datasets share this module; flags (`--field`,
`--label_names`) and gin macros (FIELDS, LABEL_NAMES) give the same mappings.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from distill.data.mapping.label_names import (
    OF_CHOICES,
    LabelNames,
    names_of_setting,
    names_of_text,
    to_text,
)
from distill.errors import UserError, unknown

ANSWERED = ("id", "input", "label", "choices")  # fields that a student or a teacher is given
TRAINED = (*ANSWERED, "teacher_label", "rationale")
SEVERAL = ("rationale",)  # fields that may have several templates
_SLOT = re.compile(r"\{([^{}\n]+)\}")
_EXAMPLE = 'input="premise: {premise} hypothesis: {hypothesis}"'


@dataclasses.dataclass(frozen=True)
class Template:
    """The text that fills a field.

    Attributes:
      field: the field of an Example.
      text: the template.
      slots: names of a record's fields in it.
      single: the name of the one field that the template consists of; None if there is more.
      setting: what set it, for error messages.
    """

    field: str
    text: str
    slots: tuple[str, ...]
    single: str | None
    setting: str = "--field"

    @property
    def where(self) -> str:
        """The setting, for error messages."""
        return f"{self.setting} {self.field}={self.text}"

    def fill(self, text_of: Callable[[str], str]) -> str:
        """The template with the text of each slot in its place."""
        return _SLOT.sub(lambda match: text_of(match[1]), self.text)


@dataclasses.dataclass(frozen=True)
class RowMapping:
    """What a user says of the records of a file or dataset.

    Attributes:
      templates: by field of an Example; a field of SEVERAL may have more than one.
      names: of labels; None if labels are texts.
    """

    templates: Mapping[str, tuple[Template, ...]] = dataclasses.field(default_factory=dict)
    names: LabelNames | None = None

    def __bool__(self) -> bool:
        return bool(self.templates) or self.names is not None

    @property
    def described(self) -> dict[str, object]:
        """The mapping as JSON: what tells rows that it made from others."""
        texts = {
            field: each[0].text if len(each) == 1 else [template.text for template in each]
            for field, each in self.templates.items()
        }
        if self.names is None:
            return dict(texts)
        return {
            **texts,
            "label_names": OF_CHOICES if self.names.of_choices else dict(self.names.by_value),
        }


def templates_of(
    texts: Iterable[str], fields: Sequence[str] = ANSWERED
) -> dict[str, list[Template]]:
    """The templates of `NAME=TEMPLATE` texts, by field.

    Args:
      texts: of `--field`.
      fields: those that may be mapped.

    Raises:
      UserError: no `=`, an unknown name, or two templates for one field.
    """
    found: dict[str, list[Template]] = {}
    for text in texts:
        name, separator, template = text.partition("=")
        if not separator or not template.strip():
            raise UserError(f"--field: got {text!r}, expected e.g. label=label or {_EXAMPLE}")
        _add(found, name, template, fields, "--field")
    return found


def mapping_of(
    texts: Iterable[str], label_names: str = "", fields: Sequence[str] = ANSWERED
) -> RowMapping:
    """The mapping of `NAME=TEMPLATE` texts and of a text of label names; empty without texts.

    Args:
      texts: of `--field`.
      label_names: of `--label_names`: names separated by commas, `VALUE=NAME` pairs separated by
        commas, a JSON list or object, or "choices".
      fields: those that may be mapped.

    Raises:
      UserError: no `=`, an unknown name, two templates for one field, or no `input`.
    """
    names = names_of_text(label_names) if label_names else None
    return _checked(templates_of(texts, fields), names, "--field", _EXAMPLE)


def mapping_of_settings(
    fields: object, label_names: object, allowed: Sequence[str] = TRAINED
) -> RowMapping:
    """The mapping of the macros FIELDS and LABEL_NAMES.

    Args:
      fields: a dict, field -> template or (for `rationale`) tuple of templates.
      label_names: a tuple of names, a dict value -> name, or "choices".
      allowed: fields that may be mapped.

    Raises:
      UserError: another value; what `mapping_of` refuses.
    """
    example = "{'input': 'text', 'label': 'gold'}"
    if not isinstance(fields, Mapping):
        raise UserError(f"got FIELDS = {fields!r}, expected a dict such as {example}")
    found: dict[str, list[Template]] = {}
    for name, value in fields.items():
        for template in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(template, str) or not template.strip():
                raise UserError(
                    f"got {template!r} for {name!r} in FIELDS, expected a template such as "
                    "'premise: {premise} hypothesis: {hypothesis}'"
                )
            _add(found, str(name), template, allowed, "FIELDS")
    names = (
        names_of_setting(label_names, "LABEL_NAMES")
        if label_names not in ((), [], {}, "")
        else None
    )
    return _checked(found, names, "FIELDS", example)


def _add(
    found: dict[str, list[Template]],
    field: str,
    text: str,
    fields: Sequence[str],
    setting: str,
) -> None:
    if field not in fields:
        if field in TRAINED:
            raise UserError(
                f"{setting}: got a template for `{field}`, which is used only in training; "
                f"expected one of {', '.join(fields)}"
            )
        raise unknown("field", field, fields, setting)
    slots = tuple(_SLOT.findall(text)) or (text,)
    single = slots[0] if text in (slots[0], f"{{{slots[0]}}}") else None
    template = Template(field, text, slots, single, setting)
    if field == "choices" and single is None:
        raise UserError(
            f"{template.where}: expected the name of one feature that is a list of strings"
        )
    templates = found.setdefault(field, [])
    if templates and field not in SEVERAL:
        raise UserError(f"{setting}: got two templates for `{field}`, expected one")
    templates.append(template)


def _checked(
    found: Mapping[str, list[Template]], names: LabelNames | None, setting: str, example: str
) -> RowMapping:
    if found and "input" not in found:
        needed = (
            "the mapping also needs --field" if setting == "--field" else "FIELDS needs a template"
        )
        raise UserError(f"{needed} for `input`, e.g. {example}")
    return RowMapping({name: tuple(each) for name, each in found.items()}, names)


def fill_fields(
    mapping: RowMapping,
    value_of: Callable[[Template, str], object],
    text_of: Callable[[Template, str], str],
    names_of: Callable[[str], LabelNames | None],
    where: str,
) -> dict[str, object]:
    """The fields of an Example from a record.

    Where the label is a single field with a closed set of names and `choices` is not mapped, the
    names are the row's choices.

    Args:
      mapping: the templates.
      value_of: the value of a field that fills a template alone; a list for `choices`.
      text_of: the text of a field within a longer template.
      names_of: the names of a field's values, if the record's schema has them.
      where: what error messages call the row.

    Raises:
      UserError: a label without a name.
    """
    values: dict[str, object] = {}

    def filled(template: Template) -> str:
        return template.fill(lambda slot: text_of(template, slot))

    labels = ("label", "teacher_label")
    for field, templates in mapping.templates.items():
        if field in labels:
            continue
        found: list[object] = []
        for template in templates:
            if template.single is None:
                found.append(filled(template))
                continue
            value = value_of(template, template.single)
            found += value if isinstance(value, list) and field in SEVERAL else [value]
        values[field] = found[0] if len(found) == 1 else found
    for template in (each for field in labels for each in mapping.templates.get(field, ())):
        if template.single is None:
            values[template.field] = filled(template)
            continue
        names = mapping.names or names_of(template.single)
        value = value_of(template, template.single)
        values[template.field] = name_label(values, template.field, value, names, where)
    return values


def name_label(
    values: dict[str, object], field: str, value: object, names: LabelNames | None, where: str
) -> str | None:
    """The text of a label; a closed set of names becomes the row's choices if it has none."""
    if names is None:
        return to_text(value)
    choices = values.get("choices")
    label = names.name(value, choices if isinstance(choices, list) else (), where)
    if field == "label" and names.names and not choices:
        values["choices"] = list(names.names)
    return label
