"""Names of labels that a file holds as numbers, truth values or codes."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Mapping, Sequence

from distill.common.text_files import parse_json
from distill.errors import UserError

OF_CHOICES = "choices"  # the value of LABEL_NAMES for labels that are numbers of choices
_WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?")
_LETTER = re.compile(r"\(?([A-Za-z])[.)]?")


@dataclasses.dataclass(frozen=True)
class LabelNames:
    """Names of labels that a file holds as numbers, truth values or codes.

    Attributes:
      by_value: the name of each value, by the value's text.
      of_choices: the label is the number (from 0) or letter of one of the row's choices.
      is_list: the values are the places in a list, and -1 stands for no label.
      setting: what set it, for error messages.
    """

    by_value: Mapping[str, str] = dataclasses.field(default_factory=dict)
    of_choices: bool = False
    is_list: bool = False
    setting: str = "--label_names"

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct names: the closed set of labels."""
        return tuple(dict.fromkeys(self.by_value.values()))

    def name(self, value: object, choices: Sequence[str], where: str) -> str | None:
        """The name of a label's value; None for no label.

        Args:
          value: of the record.
          choices: of the row.
          where: what error messages call the row.

        Raises:
          UserError: a value without a name.
        """
        text = to_text(value)
        if text is None or not text.strip():
            return None
        if self.of_choices:
            return self._choice(value, text.strip(), choices, where)
        key = _canonical(value)
        if key in ("true", "false") and key not in self.by_value:
            key = str(int(key == "true"))
        if key in self.by_value:
            return self.by_value[key]
        if text in self.by_value.values():
            return text
        if key == "-1" and self.is_list:
            return None
        raise UserError(
            f"{where}: the label {text!r} has no name in {self.setting}, which names "
            f"{', '.join(self.by_value)}; add it"
        )

    def _choice(self, value: object, text: str, choices: Sequence[str], where: str) -> str | None:
        letter, number = _LETTER.fullmatch(text), _canonical(value)
        index = ord(letter[1].lower()) - ord("a") if letter else -2
        if _WHOLE.fullmatch(number):
            index = int(number)
        if index == -1:
            return None
        if 0 <= index < len(choices):
            return choices[index]
        raise UserError(
            f"{where}: got the label {text!r}, expected the number (from 0) or the letter of one "
            f"of the row's {len(choices)} choices, because {self.setting} is {OF_CHOICES!r}"
        )


def names_of_text(text: str) -> LabelNames:
    """The names of the value of `--label_names`.

    Raises:
      UserError: text that is neither names, pairs, JSON nor "choices".
    """
    if text.lstrip().startswith(("[", "{")):
        try:
            return names_of_setting(parse_json(text), "--label_names")
        except ValueError as error:
            raise UserError(f"--label_names: got {text!r}, which is not JSON ({error})") from None
    if text.strip() == OF_CHOICES:
        return names_of_setting(OF_CHOICES, "--label_names")
    parts = [part.strip() for part in text.split(",")]
    pairs = [part.partition("=") for part in parts]
    if all(equals for _, equals, _ in pairs):
        return names_of_setting(
            {value.strip(): name.strip() for value, _, name in pairs}, "--label_names"
        )
    if any(equals for _, equals, _ in pairs):
        raise UserError(
            f"--label_names: got {text!r}, expected names only (no,yes) or a value before each "
            "name (0=no,1=yes)"
        )
    return names_of_setting(parts, "--label_names")


def names_of_setting(value: object, setting: str) -> LabelNames:
    """The names that a tuple (of names), a dict (value -> name) or the text "choices" gives.

    Args:
      value: of LABEL_NAMES, or of `--label_names`.
      setting: which of them, for error messages.

    Raises:
      UserError: another value, an empty name, or two equal names in a tuple.
    """
    if value == OF_CHOICES:
        return LabelNames(of_choices=True, setting=setting)
    if isinstance(value, Mapping):
        by_value = {_canonical(key): name for key, name in value.items()}
    elif isinstance(value, list | tuple):
        by_value = {str(number): name for number, name in enumerate(value)}
    else:
        by_value = {}
    is_list = not isinstance(value, Mapping)
    names = list(by_value.values())
    if (
        not names
        or not all(isinstance(name, str) and name.strip() for name in names)
        or (is_list and len(set(names)) < len(names))
    ):
        raise UserError(
            f"got {setting} = {value!r}, expected distinct names such as ('no', 'yes') for 0 and "
            "1, a dict from values to names, or 'choices'"
        )
    return LabelNames(by_value, is_list=is_list, setting=setting)


def class_names(names: Sequence[str]) -> LabelNames:
    """The names of a class label, as a file's own schema gives them."""
    return LabelNames(
        {str(number): name for number, name in enumerate(names)}, is_list=True, setting="its schema"
    )


def _canonical(value: object) -> str:
    """The text that stands for a label's value: "1" for 1, 1.0 and "1", "true" for "True"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    return str(int(text.partition(".")[0])) if _WHOLE.fullmatch(text) and len(text) < 20 else text


def to_text(value: object) -> str | None:
    """A single value as text; None for null and NaN, which stand for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
