"""docs/reference/macros.md: every macro, from the dataclasses and the comments of the gin files."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping

from distill.config import fields, files
from distill.config import macros as gin_macros
from distill.reference import bounds
from distill.reference.markdown import code, sentence, table

_HEADER = """\
# Macros

<!-- Generated: do not edit. Write it again with `python -m distill.reference`. -->

A macro is set in a gin file (`NAME = value`) or on the command line (`--gin.NAME=value`).
`distill config show --gin_file=FILE` prints the value of every macro of a configuration and the
line that set it. [gin.md](../gin.md) explains how files are combined.

"required" means that the macro has no default: a size file, a dataset file or an experiment sets
it.
"""
_SECTIONS = {
    "RunConfig": "Loss",
    "DataSpec": "Data",
    "Weighting": "Loss weights",
    "T5Config": "Student",
    "OptimizerConfig": "Optimizer",
    "TrainConfig": "Training",
}
_GIN_ONLY = {
    "Datasets": (
        "data",
        "Each file of `gin/data` declares the macros of its dataset, and passes them on as the "
        "dict `DATASET_OPTIONS`.",
    ),
    "Command line": ("runs", "This macro is read by the command line."),
    "T5X": (
        "engines",
        "Files of `gin/engines` declare these macros for the t5x engine and for T5X's own scripts "
        "([t5x.md](../t5x.md)). The native engine does not have them.",
    ),
}
_ENTRY = re.compile(r"^  (\w+(?:, \w+)*): (.*)$")
_CHOICE = re.compile(r" \(one of ([A-Z_]+)\)")
_SETTING = re.compile(r"^([A-Z][A-Z0-9_]*) *=")


def render() -> str:
    """The content of the page.

    Raises:
      ValueError: a macro without a meaning.
    """
    parts = [_HEADER]
    bound = fields.bindings()
    for part in dict.fromkeys(binding.part for binding in bound):
        rows = [row(binding) for binding in bound if binding.part == part]
        module = fields.PARTS[part].__module__.replace(".", "/")
        parts.append(f"## {_SECTIONS[part]}\n\nFields of `{part}` in `{module}.py`.\n")
        parts.append(table(("Macro", "Field", "Type", "Default", "Values", "Meaning"), rows) + "\n")
    for title, (layer, text) in _GIN_ONLY.items():
        rows = [
            (code(name), kind, _default(value), ", ".join(map(code, names)), sentence(meaning))
            for (name, value, kind, meaning), names in _declared(layer).items()
        ]
        parts.append(f"## {title}\n\n{text}\n")
        parts.append(table(("Macro", "Type", "Default", "Declared in", "Meaning"), rows) + "\n")
    return "\n".join(parts)


def attributes(part: type) -> dict[str, str]:
    """The text of each entry in the section "Attributes" of a class's docstring."""
    texts: dict[str, str] = {}
    names: list[str] = []
    section = inspect.cleandoc(part.__doc__ or "").partition("Attributes:\n")[2]
    for line in section.partition("\n\n")[0].splitlines():
        entry = _ENTRY.match(line)
        if entry:
            names = entry[1].split(", ")
            texts |= dict.fromkeys(names, entry[2])
        else:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def row(binding: fields.Binding) -> tuple[str, ...]:
    """The cells of a macro: name, field, type, default, values, meaning.

    Raises:
      ValueError: the docstring of the dataclass does not say what the field means.
    """
    part = fields.PARTS[binding.part]
    (field,) = (f for f in dataclasses.fields(part) if f.name == binding.field)
    meaning = attributes(part).get(field.name)
    if not meaning:
        raise ValueError(f"the docstring of {binding.part} has no entry for {field.name}")
    meaning = re.sub(r" \[[A-Z0-9_, ]+\]", "", meaning)
    values = bounds.interval(binding.macro, field.type) if field.type in ("int", "float") else ""
    followed = _followed()
    followers = [code(name) for name, source in followed.items() if source == binding.macro]
    if followers:
        meaning = f"{meaning.rstrip('.')}; also the default of {' and '.join(followers)}."
    default = _default(_shown(fields.defaults()[binding.macro]))
    if source := followed.get(binding.macro):
        default = f"value of {code(source)}"
    choice = _CHOICE.search(meaning)
    if choice:
        names = getattr(sys.modules[part.__module__], choice[1])
        values = ", ".join(code(repr(name)) for name in names)
        meaning = meaning.replace(choice[0], "")
    return (
        code(binding.macro),
        code(field.name),
        code(field.type),
        default,
        values,
        sentence(meaning),
    )


@functools.cache
def _followed() -> Mapping[str, str]:
    """The macros that the files of gin/data set to the value of another one, and which that is."""
    found: dict[str, str] = {}
    for name in files.list_gin_files("data"):
        for macro, settings in gin_macros.read_gin([files.resolve_path(name)]).history.items():
            value = settings[-1].value
            if isinstance(value, gin_macros.Reference) and value.text[1:] in fields.defaults():
                found[macro] = value.text[1:]
    return found


def _shown(value: object) -> str:
    missing = value is fields.REQUIRED or value == gin_macros.REQUIRED
    return "required" if missing else repr(value)


def _default(shown: str) -> str:
    return shown if shown == "required" else code(shown)


def _declared(layer: str) -> Mapping[tuple[str, str, str, str], list[str]]:
    """The macros that a layer declares and no field has.

    Returns:
      Names of files by (name, default, type, meaning): a macro may differ between datasets.
    """
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for name in files.list_gin_files(layer):
        history = gin_macros.read_gin([files.resolve_path(name)]).history
        for macro, meaning in _commented((files.gin_root() / name).read_text()):
            if macro in fields.defaults():
                continue
            if not meaning:
                raise ValueError(f"{name}: no comment above {macro} says what it means")
            value = history[macro][-1].value
            has_type = value is not None and not isinstance(value, gin_macros.Reference)
            kind = code(type(value).__name__) if has_type else ""
            key = (macro, _shown(value), kind, meaning)
            found.setdefault(key, []).append(name.split("/")[-1])
    return found


def _commented(text: str) -> Iterator[tuple[str, str]]:
    """Each macro that a gin file sets, and the comment above it."""
    comment: list[str] = []
    for line in text.splitlines():
        setting = _SETTING.match(line)
        if line.startswith("#"):
            comment.append(line.lstrip("# "))
            continue
        if setting:
            yield setting[1], " ".join(comment)
        comment = []
