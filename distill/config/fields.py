"""Which macro sets which field of a run: the bindings of gin/engines/common.gin, read as data.

A hyperparameter is a dataclass field, which has its default and its check, and one binding
`field = %MACRO`. Everything here follows from the two: building a RunConfig from macros without
gin, the defaults that gin/engines/defaults.gin lists, and what a run that is older than a macro
has for it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from gin import config_parser

from distill.common.paths import check_path
from distill.config import files
from distill.config.data import DataSpec
from distill.config.optimizer import OptimizerConfig
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.config.train import TrainConfig
from distill.config.weighting import Weighting
from distill.errors import NotSet, UserError

COMMON = "gin/engines/common.gin"
REQUIRED = dataclasses.MISSING
PARTS = {
    part.__name__: part
    for part in (RunConfig, DataSpec, Weighting, T5Config, OptimizerConfig, TrainConfig)
}


@dataclasses.dataclass(frozen=True)
class Binding:
    """A field that a macro sets.

    Attributes:
      part: name of the dataclass.
      field: name of its field.
      macro: name of the macro.
      default: the field's default; REQUIRED without one.
    """

    part: str
    field: str
    macro: str
    default: object


@functools.cache
def bindings() -> tuple[Binding, ...]:
    """The bindings of common.gin, in its order."""
    declared = []
    for statement in _statements():
        if not isinstance(statement, config_parser.BindingStatement) or not statement.arg_name:
            continue
        kind, name = statement.value
        if kind == "macro":
            part = statement.selector.rpartition(".")[2]
            declared.append(
                Binding(part, statement.arg_name, name, _default(part, name, statement))
            )
    return tuple(declared)


def task_modules() -> tuple[str, ...]:
    """The modules outside this package that common.gin imports: they register the datasets."""
    modules = (s.module for s in _statements() if isinstance(s, config_parser.ImportStatement))
    return tuple(m for m in modules if not m.startswith(("__", "distill.")))


@functools.cache
def defaults() -> Mapping[str, object]:
    """Each bound macro's default, REQUIRED without one.

    A macro that sets two fields is required if one of them has no default.
    """
    values: dict[str, object] = {}
    for binding in bindings():
        if values.get(binding.macro) is not REQUIRED or binding.macro not in values:
            values[binding.macro] = binding.default
    return values


def build_run(values: Mapping[str, object]) -> RunConfig:
    """The RunConfig of macros; other macros are ignored, missing ones have their default.

    Args:
      values: literals by macro.

    Raises:
      UserError: required macros are missing (all are named); whatever the dataclasses refuse,
        naming the macro.
    """
    # Any: each dataclass checks the types of what a configuration gives it.
    arguments: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    _check_paths(values)
    absent: dict[str, None] = {}
    for binding in bindings():
        if binding.macro in values:
            arguments[binding.part][binding.field] = values[binding.macro]
        elif binding.default is REQUIRED:
            absent[binding.macro] = None
    if absent:
        raise not_set(list(absent))
    return RunConfig(
        data=DataSpec(**arguments["DataSpec"]),
        weighting=Weighting(**arguments["Weighting"]),
        student=T5Config(**arguments["T5Config"]),
        optimizer=OptimizerConfig(**arguments["OptimizerConfig"]),
        train=TrainConfig(**arguments["TrainConfig"]),
        **arguments["RunConfig"],
    )


def build_parts(values: Mapping[str, object]) -> tuple[dict[str, object], list[UserError]]:
    """The parts of a RunConfig one by one, and all that is wrong with them.

    Args:
      values: literals by macro; those that are not set are absent.

    Returns:
      The parts that can be built, by the names of their dataclasses, RunConfig among them if all
      others are; the errors, NotSet for macros that a part needs.
    """
    # Any: each dataclass checks the types of what a configuration gives it.
    arguments: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    errors: dict[str, UserError] = {}
    absent: set[str] = set()
    for binding in bindings():
        if binding.macro in values:
            arguments[binding.part][binding.field] = values[binding.macro]
        elif binding.default is REQUIRED:
            absent.add(binding.part)
            error = not_set([binding.macro])
            errors.setdefault(str(error), error)
    try:
        _check_paths(values)
    except UserError as error:
        errors.setdefault(str(error), error)
    built: dict[str, object] = {}
    names = {DataSpec: "data", Weighting: "weighting", T5Config: "student"}
    names |= {OptimizerConfig: "optimizer", TrainConfig: "train"}
    for part, kind in sorted(PARTS.items(), key=lambda item: item[1] is RunConfig):
        own = arguments[part]
        if kind is RunConfig:
            if len(built) < len(names):
                break
            own = own | {name: built[each.__name__] for each, name in names.items()}
        if part not in absent:
            try:
                built[part] = kind(**own)
            except UserError as error:
                errors.setdefault(str(error), error)
    return built, list(errors.values())


def is_path(macro: str) -> bool:
    """Whether a macro holds a path: its name ends in _DIR, _FILE, _PATH or _FROM."""
    return macro.endswith(("_DIR", "_FILE", "_PATH", "_FROM"))


def how_to_set(macro: str) -> str:
    """What an error says of a macro that is not set."""
    if macro == "INIT_FROM":
        return "--init_from=FOLDER"
    if macro in ("VOCABULARY", "VOCAB_SIZE"):
        return f"--gin.{macro}=..., or --vocabulary_path=FILE"
    is_size = any(b.macro == macro and b.part == "T5Config" for b in bindings())
    return f"--gin.{macro}=...{', or --size=NAME' if is_size else ''}"


def not_set(macros: list[str]) -> NotSet:
    """The error of required macros without a value.

    Args:
      macros: their names, at least one. Those that one flag sets share its mention.
    """
    if len(macros) == 1:
        return NotSet(f"macro {macros[0]} must be set: {how_to_set(macros[0])}")
    by_flag: dict[str, list[str]] = {}
    for macro in macros:
        by_flag.setdefault(how_to_set(macro).partition("or ")[2], []).append(macro)
    others = by_flag.pop("", [])
    ways = [f"{flag} sets {', '.join(names)}" for flag, names in by_flag.items()]
    if others:
        ways.append(f"--gin.{others[0]}=... and so on set {'the others' if by_flag else 'them'}")
    return NotSet(f"macros {', '.join(macros)} must be set: {'; '.join(ways)}")


def _check_paths(values: Mapping[str, object]) -> None:
    options = values.get("DATASET_OPTIONS")
    settings = dict(values)
    if isinstance(options, dict):
        settings |= {str(key).upper(): value for key, value in options.items()}
    for macro, value in settings.items():
        if is_path(macro) and isinstance(value, str):
            check_path(value, macro)


class _Delegate(config_parser.ParserDelegate):  # type: ignore[misc]  # gin has no types
    """Gives references as pairs; resolves nothing."""

    def configurable_reference(self, name: str, evaluate: bool) -> tuple[str, str]:
        return "configurable", name

    def macro(self, name: str) -> tuple[str, str]:
        return "macro", name


@functools.cache
def _statements() -> tuple[object, ...]:
    text = (files.gin_root() / COMMON).read_text()
    return tuple(config_parser.ConfigParser(text, _Delegate()))


def _default(part: str, macro: str, statement: config_parser.BindingStatement) -> object:
    fields = {field.name: field for field in dataclasses.fields(PARTS[part])}
    field = fields[statement.arg_name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
