"""From gin files and overrides to a checked RunConfig."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence

import gin
from etils import epath

from distill.config import files, macros
from distill.config.run import RunConfig
from distill.errors import UserError, unknown

ENGINES = ("native", "t5x")
COMMON = "gin/engines/common.gin"


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A configuration that has passed every check.

    Attributes:
      run: the parts of the run.
      engine: "native" or "t5x".
      gin_files: project names or paths, in order, the engine's file first.
      overrides: `NAME=value` texts of the command line.
      macros: every macro's final value.
      text: the whole configuration as gin text, to be stored with the run.
    """

    run: RunConfig
    engine: str
    gin_files: tuple[str, ...]
    overrides: tuple[str, ...]
    macros: dict[str, object]
    text: str


def read_macros(
    gin_files: Sequence[str], overrides: Sequence[str] = (), engine: str | None = None
) -> tuple[macros.Macros, str, tuple[str, ...]]:
    """Reads the macros of a configuration without importing what it names.

    Returns:
      The macros, the engine, and all resolved paths (engine's file first).

    Raises:
      UserError: see `macros.read`; an unknown engine.
    """
    paths = tuple(files.resolve(name) for name in gin_files)
    for name, path in zip(gin_files, paths, strict=True):
        if epath.Path(path).resolve().parent == files.gin_root() / "gin" / "engines":
            raise UserError(
                f"got --gin_file={name}, which is for T5X's own scripts (docs/t5x.md); expected "
                "files of the other layers: --engine says which engine's file is added"
            )
    if engine is None:
        settings = macros.read(paths).history.get("ENGINE")
        engine = str(settings[-1].value) if settings else "native"
        for text in overrides:
            name, value = macros.parse_override(text)
            if name == "ENGINE":
                engine = value.strip("'\"")
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES, "--engine or macro ENGINE")
    paths = (files.resolve(f"gin/engines/{engine}.gin"), *paths)
    return macros.read(paths, overrides), engine, paths


def resolve(
    gin_files: Sequence[str], overrides: Sequence[str] = (), engine: str | None = None
) -> Resolved:
    """Parses gin files and overrides and builds the RunConfig.

    Args:
      gin_files: names or paths, in order; later settings win.
      overrides: `NAME=value` texts.
      engine: "native" or "t5x"; None takes the macro ENGINE.

    Raises:
      UserError: whatever is wrong with them, with file and line or macro.
    """
    found, engine, paths = read_macros(gin_files, overrides, engine)
    found.check()
    values = found.values()
    for name, value in values.items():
        if isinstance(value, macros.Reference) and "REQUIRED" in value.text:
            raise UserError(f"macro {name} must be set: --gin.{name}=...")
    for module, where in found.imports.items():
        _import(module, where)
    if engine == "native" and found.bindings:
        name, setting = next(iter(found.bindings.items()))
        raise UserError(
            f"{setting.where}: got a binding of {name}, which the native engine would not read, "
            "expected macros alone: `distill config show` lists them"
        )
    text = config_text(found)
    return Resolved(build_run(text), engine, paths, tuple(overrides), values, text)


def _import(module: str, where: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: no module named {error.name!r}: install it, or put its folder on PYTHONPATH"
        ) from None


def build_run(text: str) -> RunConfig:
    """The RunConfig of resolved macros (`config_text`), whichever engine they are for.

    Raises:
      UserError: a value that a part of the run refuses, naming its macro; a macro that is not
        there, as in a run folder of an earlier version.
    """
    common = files.resolve(COMMON)
    own, there = macros.read([common]), {line.partition(" = ")[0] for line in text.splitlines()}
    if missing := sorted(own.used.keys() - own.history.keys() - there):
        raise UserError(
            f"no value for {', '.join(missing)}, which this configuration is older than: add a "
            f"line {missing[0]} = ... with what `distill config explain {missing[0]} "
            "--gin_file=EXPERIMENT` shows"
        )
    parse_gin([common], text)
    try:
        return gin.get_configurable(RunConfig)()
    except UserError as error:
        # gin appends the call's scope to the message; keep what comes before.
        raise UserError(str(error).split("\n  In call to configurable")[0]) from None
    except (ValueError, TypeError) as error:
        raise UserError(f"gin: {str(error).strip()}") from None


def parse_gin(paths: Sequence[str], text: str) -> None:
    """Makes these files and this text gin's one global configuration.

    Raises:
      UserError: gin's own complaint, shortened to its first lines.
    """
    gin.clear_config()
    gin.add_config_file_search_path(str(files.gin_root()))
    try:
        gin.parse_config_files_and_bindings(list(paths), text, finalize_config=False)
    except UserError:
        raise
    except (ValueError, AttributeError, ImportError, SyntaxError, OSError) as error:
        raise UserError(f"gin: {str(error).strip()}") from None


def config_text(found: macros.Macros) -> str:
    """All macros as gin text, one a line; reading it again gives the same run.

    Bindings past the macros, which T5X alone reads, are comments: a run that goes on is
    compared with them too.
    """
    imports = "".join(f"import {module}\n" for module in found.imports)
    bindings = (f"# {name} = {set_to.value!r}\n" for name, set_to in found.bindings.items())
    macros = "".join(f"{name} = {value!r}\n" for name, value in found.values().items())
    return imports + macros + "".join(bindings)
