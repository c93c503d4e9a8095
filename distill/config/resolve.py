"""From gin files and overrides to a checked RunConfig."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from distill.common.atomic import is_local
from distill.config import adopted, fields, files, macros, stored
from distill.config.data import DataSpec
from distill.config.run import RunConfig
from distill.errors import UserError, check_all, unknown

ENGINES = ("native", "t5x")
_RUN_OWN = frozenset({"MODEL_DIR"})  # follows from the run folder, so it is not stored in it


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A configuration that has passed every check.

    Attributes:
      run: the parts of the run.
      engine: "native" or "t5x".
      gin_files: project names or paths, in order, the engine's file first.
      overrides: `NAME=value` texts of the command line, and absolute paths for the macros that
        hold relative ones.
      macros: every macro's final value; paths are absolute.
      text: all macros as data (`distill.config.stored`), to be stored with the run.
      bindings: what files and command line bind past the macros, as text; T5X alone reads it.
      binding_files: digest of each file that holds such a binding or an import, by path.
      notes: lines about what the checkpoint of INIT_FROM or CONTINUE_FROM decided.
    """

    run: RunConfig
    engine: str
    gin_files: tuple[str, ...]
    overrides: tuple[str, ...]
    macros: dict[str, object]
    text: str
    bindings: Mapping[str, str]
    binding_files: Mapping[str, str]
    notes: tuple[str, ...] = ()


def read_macros(
    gin_files: Sequence[str],
    overrides: Sequence[str] = (),
    engine: str | None = None,
    adopt: adopted.Adopt | None = None,
) -> tuple[macros.Macros, str, tuple[str, ...]]:
    """Reads the macros of a configuration without importing what it names.

    Args:
      gin_files: names or paths, in order; later settings win.
      overrides: `NAME=value` texts.
      engine: "native" or "t5x"; None takes the macro ENGINE.
      adopt: says what the checkpoint of INIT_FROM or CONTINUE_FROM decides
        (`distill.convert.sizes`); None leaves the checkpoint alone.

    Returns:
      The macros, the engine, and all resolved paths (engine's file first).

    Raises:
      UserError: see `macros.read_gin` and `adopted.adopt`; an unknown engine.
    """
    find = (functools.partial(files.resolve_path, name) for name in gin_files)
    paths = tuple(check_all(find))
    for name, path in zip(gin_files, paths, strict=True):
        if epath.Path(path).resolve().parent == files.gin_root() / "gin" / "engines":
            raise UserError(
                f"got --gin_file={name}, which is for T5X's own scripts (docs/t5x.md); expected a "
                "file outside gin/engines: --engine selects the engine's file"
            )
    if engine is None:
        settings = macros.read_gin(paths).history.get("ENGINE")
        engine = str(settings[-1].value) if settings else "native"
        for text in overrides:
            name, value = macros.parse_override(text)
            if name == "ENGINE":
                engine = value.strip("'\"")
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES, "--engine or macro ENGINE")
    paths = (files.resolve_path(f"gin/engines/{engine}.gin"), *paths)
    read = macros.read_gin(paths, overrides)
    decided = adopt(read) if adopt is not None else None
    if decided is not None:
        adopted.adopt(read, decided)
    return read, engine, paths


def resolve(
    gin_files: Sequence[str],
    overrides: Sequence[str] = (),
    engine: str | None = None,
    adopt: adopted.Adopt | None = None,
) -> Resolved:
    """Parses gin files and overrides and builds the RunConfig.

    Args:
      gin_files: names or paths, in order; later settings win.
      overrides: `NAME=value` texts.
      engine: "native" or "t5x"; None takes the macro ENGINE.
      adopt: as of `read_macros`.

    Raises:
      UserError: whatever is wrong with them, with file and line or macro.
    """
    read, engine, paths = read_macros(gin_files, overrides, engine, adopt)
    read.check()
    values = read.values()
    by_source = sorted(values, key=lambda each: each not in adopted.SOURCES)
    if missing := [name for name in by_source if values[name] == macros.REQUIRED]:
        # A checkpoint to start from sets further macros, so it is asked for alone.
        first = [name for name in missing if name in adopted.SOURCES]
        raise fields.not_set(first[:1] or missing)
    import_tasks()
    import_modules(read.imports)
    check_bindings(read, engine)
    absolute = {name: _absolute(name, value) for name, value in values.items()}
    moved = [
        f"{name}={absolute[name]!r}"
        for name in values
        if absolute[name] != values[name] or name in read.adopted
    ]
    bindings = {name: repr(setting.value) for name, setting in read.bindings.items()}
    return Resolved(
        run=build(read, absolute),
        engine=engine,
        gin_files=paths,
        overrides=(*overrides, *moved),
        macros=absolute,
        text=_text(read, absolute, bindings),
        bindings=bindings,
        binding_files=dict(read.binding_files),
        notes=tuple(adopted.describe(read.adopted)),
    )


def check_bindings(read: macros.Macros, engine: str) -> None:
    """Refuses bindings of what is no macro where no T5X reads them.

    Raises:
      UserError: names the first.
    """
    if engine == "native" and read.bindings:
        name, setting = next(iter(read.bindings.items()))
        raise UserError(
            f"{setting.where}: got a binding of {name}, which the native engine does not read; "
            "expected only macros: `distill config show` lists them"
        )


def import_tasks() -> None:
    """Imports the package `tasks`, which registers the datasets.

    Raises:
      UserError: another package of that name comes first on the Python path.
    """
    for name in fields.task_modules():
        module = importlib.import_module(name)
        if not getattr(module, "REGISTERS_DISTILL_DATASETS", False):
            raise UserError(
                f"the package {name!r} at {getattr(module, '__file__', None) or module.__path__} "
                "is not distill's own: remove its folder from PYTHONPATH, start from another "
                "working directory, or uninstall it"
            )


def import_modules(imports: Mapping[str, str]) -> None:
    """Imports what the user's gin files name, e.g. modules that register datasets.

    Args:
      imports: modules, and the file and line that names each.

    Raises:
      UserError: there is no such module.
    """
    for module, where in imports.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{where}: no module named {error.name!r}: install it, or add its folder to "
                "PYTHONPATH"
            ) from None


def build(read: macros.Macros, values: Mapping[str, object]) -> RunConfig:
    """The RunConfig of macros, each a literal.

    Raises:
      UserError: see `fields.build_run`; a reference where a literal is expected.
    """
    for name in fields.defaults():
        if isinstance(values.get(name), macros.Reference):
            raise UserError(
                f"{read.history[name][-1].where}: got {name} = {values[name]!r}, expected a literal"
            )
    try:
        return fields.build_run(values)
    except UserError as error:
        raise type(error)(_in_given_names(read, str(error))) from error


def find_faults(read: macros.Macros) -> tuple[DataSpec | None, list[UserError]]:
    """All that a run of these macros would be refused for before its data are read.

    Returns:
      The settings of the data, if they are sound (with any text for a VOCABULARY_PATH that is not
      set), and the errors: NotSet for what is not set yet.
    """
    values = {n: v for n, v in read.values().items() if v != macros.REQUIRED}
    parts, errors = fields.build_parts(values)
    named = [type(error)(_in_given_names(read, str(error))) for error in errors]
    if "DataSpec" not in parts and not values.get("VOCABULARY_PATH"):
        parts, _ = fields.build_parts(values | {"VOCABULARY_PATH": "not set"})
    spec = parts.get("DataSpec")
    return spec if isinstance(spec, DataSpec) else None, named


def _in_given_names(read: macros.Macros, message: str) -> str:
    """A message in which a macro that takes its value from another one has that one's name.

    DATA_SEED = %SEED: who sets SEED alone is told of SEED.
    """
    for name, settings in read.history.items():
        source, seen = settings[-1].value, {name}
        while isinstance(source, macros.Reference) and source.text.startswith("%"):
            given = source.text[1:]
            if given in seen or given not in read.history:
                break
            seen.add(given)
            message = re.sub(rf"\b{re.escape(name)}\b", given, message)
            source = read.history[given][-1].value
    return message


def _absolute(name: str, value: object) -> object:
    """`value` with the paths in it made absolute, if the macro's name says that it holds one."""
    if isinstance(value, dict):
        return {key: _absolute(str(key).upper(), item) for key, item in value.items()}
    if not fields.is_path(name) or not isinstance(value, str) or not value:
        return value
    return absolute_path(value)


def absolute_path(path: str) -> str:
    """A path as run folders store it: from the root, links and all; one in a bucket as it is."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def _text(read: macros.Macros, values: Mapping[str, object], bindings: Mapping[str, str]) -> str:
    """What the run folder stores: literals as data; imports, bindings and references as notes.

    Macros that only other macros use are left out: what they give is in those.
    """
    literals = {
        name: value
        for name, value in values.items()
        if not isinstance(value, macros.Reference)
        and name not in _RUN_OWN
        and (name in macros.CLI_MACROS or "/engines/" in read.used[name])
    }
    references = {n: v.text for n, v in values.items() if isinstance(v, macros.Reference)}
    return stored.dump(literals, _notes(read.imports, {**references, **bindings}))


def _notes(imports: Iterable[str], bindings: Mapping[str, str]) -> list[str]:
    notes = [f"import {module}" for module in imports]
    notes += [f"{name} = {text}" for name, text in bindings.items()]
    return ["For the record, never read:", *notes] if notes else []
