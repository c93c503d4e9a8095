"""Macros that a checkpoint decides: its sizes, and the vocabulary that it was trained with.

INIT_FROM and CONTINUE_FROM may name a folder that says what sizes its parameters have. These become
macros, and the folder is what set them. What the folder says of its vocabulary is a default: the
contents of the vocabularies are compared later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from distill.config.macros import REQUIRED, Macros, Setting
from distill.errors import UserError

SIZES = (
    "VOCAB_SIZE",
    "EMBED_DIM",
    "NUM_HEADS",
    "HEAD_DIM",
    "MLP_DIM",
    "NUM_ENCODER_LAYERS",
    "NUM_DECODER_LAYERS",
    "MLP_ACTIVATIONS",
    "TIE_EMBEDDINGS",
    "SCALE_TIED_LOGITS",
)
SOURCES = ("INIT_FROM", "CONTINUE_FROM")
_DEFAULTS = "gin/engines/defaults.gin"


@dataclasses.dataclass(frozen=True)
class Adopted:
    """What a checkpoint decides.

    Attributes:
      sizes: values of some of SIZES and the file that has each; other values are refused.
      defaults: values of other macros and their files, for macros that nothing else sets.
    """

    sizes: Mapping[str, Setting] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Setting] = dataclasses.field(default_factory=dict)


# Finds what the checkpoint of a configuration decides; None if it has none, or none that says it.
Adopt = Callable[[Macros], Adopted | None]


def source_of(read: Macros) -> tuple[str, str]:
    """The macro that names the checkpoint of a new run, and its path; ("", "") without one."""
    for macro in SOURCES:
        value = read.value(macro) if macro in read.history else ""
        if isinstance(value, str) and value:
            return macro, value
    return "", ""


def adopt(read: Macros, adopted: Adopted) -> None:
    """Adds what a checkpoint decides to the macros, in place.

    Raises:
      UserError: a file or an override sets other sizes; names all of them with both values.
    """
    macro, path = source_of(read)
    theirs: dict[str, Setting] = {}
    for name, setting in adopted.sizes.items():
        if name not in read.history:
            continue
        if is_unset(read, name):
            _set(read, name, setting)
        elif _plain(read.value(name)) != _plain(setting.value) and not _is_idle(name, adopted):
            theirs[name] = setting
    if theirs:
        ours = {n: Setting(read.value(n), _file(read.history[n][-1].where)) for n in theirs}
        raise UserError(
            f"{'; '.join((*describe(ours), *describe(theirs)))}: the sizes of a run with {macro} "
            f"= {path!r} are those of the checkpoint. Leave out --size, "
            f"{'--vocabulary_path, ' if 'VOCAB_SIZE' in theirs else ''}the files of gin/sizes and "
            "gin/models, or the override that sets others (gin/experiments/jsonl_pretrained.gin "
            "sets none), or choose a checkpoint of these sizes"
        )
    for name, setting in adopted.defaults.items():
        if name in read.history and is_unset(read, name):
            _set(read, name, setting)


def _set(read: Macros, name: str, setting: Setting) -> None:
    read.history[name].append(setting)
    read.adopted[name] = setting


def describe(settings: Mapping[str, Setting]) -> list[str]:
    """A line for each file that has set macros."""
    by_file: dict[str, list[str]] = {}
    for name, setting in settings.items():
        by_file.setdefault(setting.where, []).append(f"{name} = {setting.value!r}")
    return [f"{where} sets {', '.join(texts)}" for where, texts in by_file.items()]


def is_unset(read: Macros, name: str) -> bool:
    """Whether a macro has the default of its dataclass, or must be set and is not."""
    value = read.value(name)
    where = read.history[name][-1].where
    return value == REQUIRED or value == "" or where.rpartition(":")[0].endswith(_DEFAULTS)


def _file(where: str) -> str:
    """A place without its line."""
    name, _, line = where.rpartition(":")
    return name if name and line.isdigit() else where


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def _is_idle(name: str, adopted: Adopted) -> bool:
    """Whether a macro has no effect at these sizes."""
    tied = adopted.sizes.get("TIE_EMBEDDINGS")
    return name == "SCALE_TIED_LOGITS" and tied is not None and not tied.value
