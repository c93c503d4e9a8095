"""What the records of a file have in each of their fields: kinds of values, words, lists."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

MOST_VALUES = 100  # different values of a field that are kept
MOST_CHOICES = 26  # that letters can name
_DEEPEST = 4  # objects in one another
_NAMEABLE = re.compile(r"[^{}\n=]+")  # what a template can name


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
    fewest: int = MOST_CHOICES
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


def fields_of(records: Iterable[Mapping[str, object]]) -> dict[str, Seen]:
    """What the records have in each field, by path, in the order of first sight.

    Args:
      records: of a file; fields within objects, and lists of texts, are fields too.
    """
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
            if len(seen.values) < MOST_VALUES:
                seen.values.add(text)
    return fields


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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
