"""Fields of a row as JSON gives them: checked, and named with their place in errors."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from distill.errors import UserError

_MOST_NAMED = 10  # fields of a row in a message


def no_input(extra: Mapping[str, object], where: str) -> UserError:
    """The error of a row that has other fields, but none that is called `input`."""
    texts = [name for name, value in extra.items() if isinstance(value, str) and value.strip()]
    names = ", ".join(map(repr, [*extra][:_MOST_NAMED])) + (", ..." * (len(extra) > _MOST_NAMED))
    example = f"{{{texts[0]}}}" if texts else "{NAME}"
    macro = {"input": example}
    return UserError(
        f"{where}: no field `input`, only {names}; rename one, or map one of a file with --field "
        f"'input={example}' (macro FIELDS = {macro})"
    )


def text_field(
    fields: Mapping[str, object], name: str, where: str, blank_is_none: bool = False
) -> str | None:
    """A text field; JSON null and a missing field are both None."""
    value = fields.get(name)
    if value is None or (blank_is_none and isinstance(value, str) and not value.strip()):
        return None
    return required_text(fields, name, where)


def required_text(fields: Mapping[str, object], name: str, where: str) -> str:
    """A text field that a row must have."""
    value = fields.get(name)
    if value is None:
        raise UserError(f"{where}: `{name}` is missing or empty, expected text")
    if not isinstance(value, str):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        kind = f'"{value}"' if is_number else "a JSON string"
        fix = ""
        if name == "label" and isinstance(value, int):
            fix = "; label_names (macro LABEL_NAMES) gives names to numbers and truth values"
        raise UserError(f"{where}: got {value!r} for `{name}`, expected a string ({kind}){fix}")
    if not value.strip():
        raise UserError(f"{where}: `{name}` is blank, expected text")
    _check_encodes(value, name, where)
    return value


def _check_encodes(value: str, name: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: `{name}` contains an unpaired surrogate ({value[error.start]!r}); write the "
            "character itself"
        ) from error


def rationales_field(fields: Mapping[str, object], where: str) -> tuple[str, ...]:
    """The distinct texts of the field `rationale`, a string or a list."""
    value = fields.get("rationale")
    items = value if isinstance(value, list | tuple) else [value]
    texts = (text_field({"rationale": item}, "rationale", where, True) for item in items)
    return tuple(dict.fromkeys(text for text in texts if text is not None))


def id_field(fields: Mapping[str, object], where: str) -> str:
    """The id of a row; a whole number is taken as its digits."""
    value = fields.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: got {value!r} for `id`, expected a string or an integer")
    return required_text(fields, "id", where)


def choices_field(fields: Mapping[str, object], where: str) -> tuple[str, ...]:
    """The closed label set of a row, or ()."""
    value = fields.get("choices")
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(
        isinstance(c, str) and c.strip() for c in value
    ):
        raise UserError(f"{where}: got {value!r} for `choices`, expected a list of strings")
    if len(set(value)) < len(value):
        raise UserError(f"{where}: `choices` contains a duplicate: {value!r}")
    for choice in value:
        _check_encodes(choice, "choices", where)
    return _shared(tuple(value))


@functools.lru_cache(maxsize=64)
def _shared(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for equal sets: rows of one closed set hold it once."""
    return choices
