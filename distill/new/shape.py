"""Looks at records of any shape: which field is the text to label, which the label, which a list.

Names decide, and then values: `{"review": {"body": ...}, "stars": 4}` has the input `review/body`
and the label `stars`. If two fields are equally likely, the user is asked which one it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

from distill.data.formats.record_files import RecordFile
from distill.data.mapping.row_mapping import TRAINED, Template, templates_of
from distill.errors import UserError
from distill.new.fields import MOST_CHOICES, MOST_VALUES, Seen, fields_of

_LOOKED_AT = 10_000  # records
_WORDS = 3  # of a text to label, on average
_LONGEST_LABEL = 40  # characters of a label that is found by its values
_INPUTS = (
    ("input",),
    (
        *("text", "sentence", "body", "message", "content", "question", "review", "comment"),
        *("description", "query", "document", "utterance", "tweet", "reviewtext", "reviewbody"),
    ),
)
_BEFORE_INPUT = ("title", "subject", "headline")
_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("context", "question"),
    ("passage", "question"),
)
_LABELS = (
    ("label",),
    ("gold", "goldlabel", "class", "target", "answer", "answerkey", "correctanswer"),
    ("category", "intent", "topic", "sentiment", "queue", "department", "rating", "stars", "tag"),
)
_CHOICES = ("choices", "options", "candidates", "alternatives")
_WRITTEN = ("teacher_label", "rationale")  # by `distill annotate`
# Plain names of fields that may hold a rationale, but also something else.
_REASONS = {
    *("why", "reason", "reasons", "reasoning", "explanation", "explanations", "justification"),
    *("analysis", "thought", "thoughts", "cot"),
}
_ANSWERS = ("choices", "label", *_WRITTEN)  # roles that share no field
# Words of names of fields that a model has filled in.
_MODELS = {
    "llm",
    "gpt",
    "model",
    "teacher",
    "predicted",
    "prediction",
    "pred",
    "palm",
    "claude",
    "ai",
}
_LETTER = re.compile(r"\(?[A-Za-z][.)]?")


@dataclasses.dataclass(frozen=True)
class Shape:
    """How records become rows.

    Attributes:
      fields: field of a row -> template, as of `--field`; empty where the names are ours already.
      label_names: as of `--label_names`.
      maybe_label: fields that may be the label, where none was found; some records lack them.
      model_label: the field that was found for the label if its name speaks of a model.
      maybe_rationale: fields that may hold rationales, where none was found.
    """

    fields: Mapping[str, str]
    label_names: str = ""
    maybe_label: tuple[str, ...] = ()
    model_label: str = ""
    maybe_rationale: tuple[str, ...] = ()


def find_shape(
    records: RecordFile, label_names: str = "", given: Mapping[str, Template | None] | None = None
) -> Shape:
    """Finds input, label, choices and id among the fields of the first records.

    Args:
      records: of the user's file.
      label_names: what the user said of the names of labels.
      given: the templates that the user gave, by field of a row; None for a field that rows shall
        not have.

    Raises:
      UserError: no record; no field, or several, that can be the input, or several that can be the
        label; one field in two roles; rows with a teacher's labels and no others.
    """
    first = [record for _, record in itertools.islice(records.read(), _LOOKED_AT)]
    if not first:
        raise records.no_rows()
    name, count, given = str(records.path), len(first), given or {}
    fields = fields_of(first)
    written = _find_written(name, fields.values(), given)
    if "teacher_label" in written and "label" not in {*fields, *given}:
        raise _annotated(name, written["teacher_label"])
    used = {slot for template in given.values() if template for slot in template.slots}

    def unused(*others: Seen | None) -> list[Seen]:
        paths = {*used, *_WRITTEN, *written.values(), *(seen.path for seen in others if seen)}
        return [seen for seen in fields.values() if seen.path not in paths and not seen.item_path]

    def given_field(field: str) -> Seen | None:
        template = given[field]
        return fields.get(template.single or "") if template else None

    choices = given_field("choices") if "choices" in given else _find_choices(fields.values())
    label = given_field("label") if "label" in given else _find_label(name, unused(choices), count)
    found: dict[str, str] = {}
    if "input" not in given:
        found["input"] = _find_input(name, unused(choices, label), count)
        if choices is not None and choices.item_path:
            found["input"] = _with_choices(found["input"], choices)
    if label is not None:
        found["label"] = label.path
    if choices is not None:
        found["choices"] = choices.path
        if label is not None and not label_names and _are_places(label, choices):
            label_names = "choices"
    maybe_label: tuple[str, ...] = ()
    if label is None and "label" not in given:
        maybe_label = tuple(seen.path for seen in _of_few_values(unused(choices), count))
    model_label = label.path if label and "label" not in given and _is_of_model(label.path) else ""
    found |= written
    if "id" in fields and _is_unique(fields["id"], count):
        found["id"] = "id"
    maybe_rationale: tuple[str, ...] = ()
    if "rationale" not in {*given, *found}:
        others = [seen for seen in unused(label, choices) if not _fills(seen, found)]
        maybe_rationale = tuple(seen.path for seen in others if _may_explain(seen))
    notes = maybe_label, model_label, maybe_rationale
    is_text = label is None or records.columns is not None or label.texts == label.count
    if not given and all(field == path for field, path in found.items()) and is_text:
        return Shape({}, label_names, *notes)
    texts = {field: template.text if template else "" for field, template in given.items()}
    shown = {**texts, **found, **texts}  # in the order in which they were given
    templates = {field: text for field, text in shown.items() if text}
    shape = Shape(templates, label_names, *notes)
    _check_roles(name, shape, given)
    return shape


def _check_roles(name: str, shape: Shape, given: Iterable[str]) -> None:
    """Refuses one field of the records in two roles, such as the label within the input.

    Args:
      name: of the file.
      shape: what was given and found; an input may contain the choices.
      given: the fields of a row that the user gave.

    Raises:
      UserError: names both roles.
    """
    texts = (f"{field}={text}" for field, text in shape.fields.items())
    templates = {field: each for field, (each,) in templates_of(texts, TRAINED).items()}
    roles = [field for field in _ANSWERS if field in templates and templates[field].single]
    for role in roles:
        path = templates[role].single
        others = [field for field in roles if templates[field].single == path]
        if "input" in templates and path in templates["input"].slots and role != "choices":
            others.insert(0, "input")
        if others != [role]:
            first, second = others[:2]
            found = "" if second in given else " (found by its name)"
            raise UserError(
                f"{name}: the field {path} is used as the {first} and as the {second}{found}, "
                f"expected one field for each: name another with --field {second}=FIELD, or leave "
                f"the {second} out with --field {second}="
            )


def _find_written(name: str, fields: Collection[Seen], given: Collection[str]) -> dict[str, str]:
    """The paths of a teacher's label and rationale, whose names are ours in any spelling.

    Raises:
      UserError: several fields with a name of ours, of which none is spelled as ours.
    """
    found: dict[str, str] = {}
    for field in (field for field in _WRITTEN if field not in given):
        exact = [seen for seen in fields if seen.path == field and seen.texts]
        plain = field.replace("_", "")
        named = [
            seen for seen in fields if seen.name == plain and seen.texts and not seen.item_path
        ]
        if len(named) > 1 and not exact:
            raise _ambiguous(name, field, named)
        for seen in exact or named:
            found[field] = seen.path
    return found


def _fills(seen: Seen, found: Mapping[str, str]) -> bool:
    """Whether a field of the records fills a field of the rows."""
    return any(seen.path == text or f"{{{seen.path}}}" in text for text in found.values())


def _may_explain(seen: Seen) -> bool:
    """Whether a field may hold rationales: by its name, if its texts have several words."""
    return seen.name in _REASONS and seen.words >= _WORDS * seen.count


def _annotated(name: str, path: str) -> UserError:
    rename = "" if path == "teacher_label" else "rename it to `teacher_label` and "
    return UserError(
        f"{name} has the field `{path}`, so its rows are annotated already: {rename}train on "
        "them with distill train --gin_file=jsonl_step_by_step --gin.LABEL_SOURCE=teacher "
        f"--gin.TRAIN_FILE={name} and --gin.LABELS=\"('A', 'B')\" with your labels, or "
        '--gin.LABELS="()" for free text; if they are not, give --field label=FIELD'
    )


def _is_of_model(path: str) -> bool:
    return not _MODELS.isdisjoint(re.findall(r"[a-z]+", path.casefold()))


def _find_choices(fields: Iterable[Seen]) -> Seen | None:
    """The list of answers of each record: that with the longest texts if a name says it twice."""
    lists = [
        seen
        for seen in fields
        if {*seen.parts} & {*_CHOICES} and (seen.fewest >= 2 if seen.item_path else seen.texts)
    ]
    lists = [seen for seen in lists if seen.item_path or _holds_lists(seen)]
    return max(lists, key=lambda seen: seen.longest, default=None)


def _holds_lists(seen: Seen) -> bool:
    """Whether cells of text are JSON lists."""
    return all(text.lstrip().startswith("[") for text in seen.values)


def _find_label(name: str, fields: Sequence[Seen], count: int) -> Seen | None:
    """The label: by its name, else the one field of few values; None if there is none.

    Args:
      name: of the file.
      fields: of its records.
      count: of records.
    """
    for tier in _LABELS:
        named = [seen for seen in fields if seen.name in tier]
        if len(named) > 1:
            raise _ambiguous(name, "label", named)
        if named:
            return named[0]
    few = [seen for seen in _of_few_values(fields, count) if seen.count == count]
    if len(few) > 1:
        raise _ambiguous(name, "label", few)
    return few[0] if few else None


def _of_few_values(fields: Iterable[Seen], count: int) -> list[Seen]:
    """Fields of most records with few and short values, as labels are."""
    return [
        seen
        for seen in fields
        if 2 <= len(seen.values) <= count / 5
        and len(seen.values) < MOST_VALUES
        and seen.longest <= _LONGEST_LABEL
        and seen.words < _WORDS * count
        and 2 * seen.count > count
    ]


def _find_input(name: str, fields: Sequence[Seen], count: int) -> str:
    """The template of the input."""
    texts = [seen for seen in fields if seen.texts == seen.count]
    paths = {seen.name: seen.path for seen in texts}
    if "input" not in paths:
        for first, second in _PAIRS:
            if first in paths and second in paths:
                return f"{first}: {{{paths[first]}}} {second}: {{{paths[second]}}}"
    for tier in _INPUTS:
        named = [seen for seen in texts if seen.name in tier]
        if len(named) > 1:
            raise _ambiguous(name, "input", named)
        if named:
            return _with_title(named[0], texts)
    long = [seen for seen in texts if seen.words >= _WORDS * seen.count and 2 * seen.count > count]
    if len(long) == 1:
        return _with_title(long[0], texts)
    if long:
        raise _ambiguous(name, "input", long)
    listed = ", ".join(seen.path for seen in fields) or "no text"
    raise UserError(
        f"{name}: no field looks like a text to label, among {listed}; name it with --field "
        "input=FIELD. The first line of a CSV or TSV file must name its columns"
    )


def _with_title(text: Seen, texts: Sequence[Seen]) -> str:
    """The text, after its title or subject if the same object has one."""
    titles = [
        seen.path for seen in texts if seen.name in _BEFORE_INPUT and seen.parent == text.parent
    ]
    if text.name == "input" or len(titles) != 1:
        return text.path
    return f"{{{titles[0]}}}: {{{text.path}}}"


def _with_choices(template: str, choices: Seen) -> str:
    """The template with the choices after it: a student reads nothing but the input."""
    text = template if "{" in template else f"{{{template}}}"
    letters = (chr(ord("a") + number) for number in range(min(choices.most, MOST_CHOICES)))
    items = (
        f"({letter}) {{{choices.item_path.format(number)}}}"
        for number, letter in enumerate(letters)
    )
    return f"{text} Choices: {' '.join(items)}"


def _are_places(label: Seen, choices: Seen) -> bool:
    """Whether all labels are letters or numbers that name choices by their place."""
    if not choices.item_path:
        return label.texts < label.count
    numbers = [int(text) for text in label.values if text.isdecimal() and len(text) < 3]
    if len(numbers) == len(label.values):
        return max(numbers) < choices.most
    return all(_LETTER.fullmatch(text) for text in label.values)


def _is_unique(seen: Seen, count: int) -> bool:
    return seen.count == count and len(seen.values) == min(count, MOST_VALUES)


def _ambiguous(name: str, field: str, several: Sequence[Seen]) -> UserError:
    paths = [seen.path for seen in several]
    none = f", or --field {field}= for none of them" if field != "input" else ""
    return UserError(
        f"{name}: {len(paths)} fields may be the {field}: {', '.join(paths)}; say which with "
        f"--field {shlex.quote(f'{field}={paths[0]}')}{none}"
    )
