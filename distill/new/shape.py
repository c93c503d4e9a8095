"""Looks at records of any shape: which field is the text to label, which the label, which a list.

Names decide, and then values: `{"review": {"body": ...}, "stars": 4}` has the input `review/body`
and the label `stars`. Where two fields are equally likely the user is told to say which.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from distill.data.formats.record_files import RecordFile
from distill.errors import UserError

_LOOKED_AT = 10_000  # records
_DEEPEST = 4  # objects in one another
_MOST_VALUES = 100  # different values of a field that are kept
_MOST_CHOICES = 26  # that letters can name
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
_NAMEABLE = re.compile(r"[^{}\n=]+")  # what a template can name
_LETTER = re.compile(r"\(?[A-Za-z][.)]?")


@dataclasses.dataclass
class Seen:
    """What the records have in one field.

    Attributes:
      path: of the field, such as `review/body`.
      item_path: of one item of a list, with {} for its number; "" if the field is no list.
      texts, numbers, booleans: how many records have such a value.
      words: of all texts.
      longest: characters of the longest value.
      values: the different values as texts, up to a limit.
      fewest, most: items of a list.
    """

    path: str
    item_path: str = ""
    texts: int = 0
    numbers: int = 0
    booleans: int = 0
    words: int = 0
    longest: int = 0
    values: set[str] = dataclasses.field(default_factory=set)
    fewest: int = _MOST_CHOICES
    most: int = 0

    @property
    def count(self) -> int:
        """Records that have the field."""
        return self.texts + self.numbers + self.booleans

    @property
    def name(self) -> str:
        """The last part of the path, in plain letters."""
        return _plain(self.path.rpartition("/")[2])

    @property
    def parts(self) -> list[str]:
        """The parts of the path, in plain letters."""
        return [_plain(part) for part in self.path.split("/")]

    @property
    def parent(self) -> str:
        """The path of the object that the field is in."""
        return self.path.rpartition("/")[0]


@dataclasses.dataclass(frozen=True)
class Shape:
    """How records become rows.

    Attributes:
      fields: field of a row -> template, as of `--field`; empty where the names are ours already.
      label_names: as of `--label_names`.
    """

    fields: Mapping[str, str]
    label_names: str = ""


def find_shape(records: RecordFile, label_names: str = "") -> Shape:
    """Finds input, label, choices and id among the fields of the first records.

    Args:
      records: of the user's file.
      label_names: what the user said of the names of labels.

    Raises:
      UserError: no record; no field, or several, that can be the input, or several that can be the
        label; rows with a teacher's labels and no others.
    """
    first = [record for _, record in itertools.islice(records.read(), _LOOKED_AT)]
    if not first:
        raise records.no_rows()
    name = str(records.path)
    fields = _look(first)
    paths = {seen.path for seen in fields}
    if "teacher_label" in paths and "label" not in paths:
        raise UserError(
            f"{name} has the field `teacher_label`, so its rows are annotated already: train on "
            "them with distill train --gin_file=jsonl_step_by_step --gin.LABEL_SOURCE=teacher "
            f"--gin.TRAIN_FILE={name}; if they are not, give --field label=FIELD"
        )
    choices = _find_choices(fields)
    used = {choices.path} if choices else set()
    known = [seen for seen in fields if seen.path not in used and not seen.item_path]
    label = _find_label(name, known, len(first))
    rest = [seen for seen in known if label is None or seen.path != label.path]
    found = {"input": _find_input(name, rest, len(first))}
    if label is not None:
        found["label"] = label.path
    if choices is not None:
        found["choices"] = choices.path
        if label is not None and not label_names and _are_places(label, choices):
            label_names = "choices"
        if choices.item_path:
            found["input"] = _with_choices(found["input"], choices)
    if any(seen.path == "id" and _is_unique(seen, len(first)) for seen in fields):
        found["id"] = "id"
    is_text = label is None or records.columns is not None or label.texts == label.count
    if all(field == path for field, path in found.items()) and is_text:
        return Shape({}, label_names)
    return Shape(found, label_names)


def _look(records: Iterable[Mapping[str, object]]) -> list[Seen]:
    """What each field has, in the order of first sight."""
    fields: dict[str, Seen] = {}
    for record in records:
        for path, item_path, value in _walk(record, "", 0):
            seen = fields.setdefault(path, Seen(path, item_path))
            if isinstance(value, list):
                seen.texts += 1
                seen.fewest, seen.most = min(seen.fewest, len(value)), max(seen.most, len(value))
                seen.longest = max(seen.longest, *map(len, value), 0)
                continue
            text = str(value)
            seen.booleans += isinstance(value, bool)
            seen.numbers += isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(value, str):
                seen.texts += 1
                seen.words += len(text.split())
            seen.longest = max(seen.longest, len(text))
            if len(seen.values) < _MOST_VALUES:
                seen.values.add(text)
    return list(fields.values())


def _walk(value: object, path: str, depth: int) -> Iterator[tuple[str, str, object]]:
    """Path, path of an item, and value of each field: a single value, or a list of texts."""
    if isinstance(value, Mapping):
        for name, each in value.items() if depth < _DEEPEST else ():
            if _NAMEABLE.fullmatch(str(name)) and "/" not in str(name):
                yield from _walk(each, f"{path}/{name}" if path else str(name), depth + 1)
    elif isinstance(value, list):
        if value and all(isinstance(each, str) for each in value):
            yield path, f"{path}/{{}}", value
        elif value and all(isinstance(each, Mapping) for each in value):
            for name in value[0]:
                texts = [each.get(name) for each in value]
                if _NAMEABLE.fullmatch(str(name)) and all(isinstance(t, str) for t in texts):
                    yield f"{path}/{name}", f"{path}/{{}}/{name}", texts
    elif isinstance(value, str | int | float) and str(value).strip():
        yield path, "", value


def _find_choices(fields: Sequence[Seen]) -> Seen | None:
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
    """The label: by its name, else the one field of few values; None if there is none."""
    for tier in _LABELS:
        named = [seen for seen in fields if seen.name in tier]
        if len(named) > 1:
            raise _ambiguous(name, "label", named)
        if named:
            return named[0]
    few = [
        seen
        for seen in fields
        if 2 <= len(seen.values) <= count / 5
        and len(seen.values) < _MOST_VALUES
        and seen.longest <= _LONGEST_LABEL
        and seen.words < _WORDS * count
        and seen.count == count
    ]
    if len(few) > 1:
        raise _ambiguous(name, "label", few)
    return few[0] if few else None


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
        "input=FIELD (and --field label=FIELD)"
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
    letters = (chr(ord("a") + number) for number in range(min(choices.most, _MOST_CHOICES)))
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
    return seen.count == count and len(seen.values) == min(count, _MOST_VALUES)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _ambiguous(name: str, field: str, several: Sequence[Seen]) -> UserError:
    paths = [seen.path for seen in several]
    needed = "" if field == "input" else " --field input=FIELD"
    return UserError(
        f"{name}: {len(paths)} fields may be the {field}: {', '.join(paths)}; say which with "
        f"--field {field}={paths[0]}{needed} (once a field is given, give all: input, label, "
        "choices)"
    )
