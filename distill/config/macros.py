"""The macros of a configuration: who set each, the guard against typing errors.

gin accepts a macro that nothing uses without a word, so a misspelled override
would train the wrong thing. This module reads the files with gin's own parser,
without importing what they name, and keeps for every macro where it was set and
what that overrode.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import sys
import tokenize
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath
from gin import config_parser

from distill.common.digests import sha256
from distill.common.text_files import read_text, too_many_digits
from distill.config import files, gin_errors
from distill.errors import UserError, alike, hint

# Read by the command line itself, so that no binding needs to use them.
CLI_MACROS = frozenset({"ENGINE"})
# What gin's parser raises: no statement, no such literal, a dict's key that is no value, brackets
# in brackets without an end.
_UNREADABLE = (
    SyntaxError,
    ValueError,
    tokenize.TokenError,
    TypeError,
    MemoryError,
    RecursionError,
)
_DEEPEST = 20  # lists and dicts in one another
_OPTIONS = "DATASET_OPTIONS"
_RENAMED = {"INITIAL_CHECKPOINT_PATH": "CONTINUE_FROM"}
_LARGEST = 2**63 - 1  # whole number: more than any setting needs, and has digits to show


@dataclasses.dataclass(frozen=True)
class Setting:
    """One assignment to a macro: its value as written, and file and line."""

    value: Any
    where: str


@dataclasses.dataclass(frozen=True)
class Reference:
    """A `%MACRO` or `@configurable` on the right of an assignment."""

    text: str

    def __repr__(self) -> str:
        return self.text


REQUIRED = Reference("%gin.REQUIRED")  # the value of a macro that has to be set


class _Delegate(config_parser.ParserDelegate):  # type: ignore[misc]  # gin has no types
    """Records which macros are used; resolves nothing, imports nothing."""

    def __init__(self) -> None:
        self.used: dict[str, str] = {}
        self.where = ""

    def configurable_reference(self, name: str, evaluate: bool) -> Reference:
        return Reference(f"@{name}{'()' if evaluate else ''}")

    def macro(self, name: str) -> Reference:
        self.used.setdefault(name, self.where)
        return Reference(f"%{name}")


@dataclasses.dataclass
class Macros:
    """What gin files say of macros, in the order in which gin would apply it.

    Attributes:
      history: all settings of each macro, the one in force last.
      used: the macros that something refers to, and where first.
      imports: modules that files outside gin/engines import (a user's task modules), and where
        first; not gin's own `__gin__` and the main program.
      bindings: what files outside gin/engines and the command line bind past the macros, the
        setting in force.
      binding_files: sha256 of each file outside gin/engines that imports or binds, by path.
      adopted: the macros that a checkpoint has set (`distill.config.adopted`).
    """

    history: dict[str, list[Setting]] = dataclasses.field(default_factory=dict)
    used: dict[str, str] = dataclasses.field(default_factory=dict)
    imports: dict[str, str] = dataclasses.field(default_factory=dict)
    bindings: dict[str, Setting] = dataclasses.field(default_factory=dict)
    binding_files: dict[str, str] = dataclasses.field(default_factory=dict)
    adopted: dict[str, Setting] = dataclasses.field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The final value, with references to other macros followed.

        Raises:
          UserError: the macro is declared nowhere, or refers to itself.
        """
        return self._resolve(name, ())

    def _resolve(self, name: str, seen: tuple[str, ...]) -> Any:
        if name not in self.history:
            raise self.undeclared(name, seen[-1] if seen else "the command line")
        if name in seen:
            raise UserError(f"macros refer to each other in a cycle: {' -> '.join([*seen, name])}")

        def follow(value: Any) -> Any:
            if value == REQUIRED:
                return value
            if isinstance(value, Reference) and value.text.startswith("%"):
                return self._resolve(value.text[1:], (*seen, name))
            if isinstance(value, dict):
                return {key: follow(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return type(value)(follow(item) for item in value)
            return value

        return follow(self.history[name][-1].value)

    def values(self) -> dict[str, Any]:
        """Every macro's final value, by name in alphabetical order."""
        return {name: self.value(name) for name in sorted(self.history)}

    def undeclared(self, name: str, where: str) -> UserError:
        """The error for a macro that no file declares."""
        known = hint(name, self.history, "`distill config show` lists all macros")
        if name in _RENAMED:
            known = f"it is now called {_RENAMED[name]}"
        if told := self._in_options(name):
            known = told
        if name == "RAW_DIR":
            known = "only the paper's datasets read a folder of raw data: leave out --raw_dir"
        return UserError(f"no gin file declares the macro {name} (set or used by {where}); {known}")

    def _in_options(self, name: str) -> str:
        """How to set a macro of a dataset in the config.gin of a run folder; "" for others."""
        if not self.history.get(_OPTIONS):
            return ""
        options = self.history[_OPTIONS][-1].value
        if not isinstance(options, dict) or name.lower() not in options:
            return ""
        if any(isinstance(value, Reference) for value in options.values()):
            return ""
        flag = gin_errors.literal_in_quotes(f"--gin.{_OPTIONS}", repr(options))
        return (
            f"in the config.gin of a run folder, it is the key {name.lower()!r} of {_OPTIONS}, "
            f"which is set as a whole: change it in {flag}"
        )

    def explain(self, name: str) -> list[Setting]:
        """All settings of `name`, the one in force last.

        Raises:
          UserError: unknown macro; lists the closest names.
        """
        if name not in self.history:
            raise self.undeclared(name, "config explain")
        return self.history[name]

    def check(self) -> None:
        """Refuses macros that are used but never set, or set but never used."""
        for name, where in self.used.items():
            if name not in self.history and name != "gin.REQUIRED":
                raise self.undeclared(name, where)
        for name, settings in self.history.items():
            if name not in self.used and name not in CLI_MACROS:
                near = alike(name, set(self.used) | CLI_MACROS)
                raise UserError(
                    f"{settings[-1].where}: macro {name} is set, but no binding uses it"
                    + (f"; closest: {', '.join(near)}" if near else "")
                )


def parse_override(text: str) -> tuple[str, str]:
    """Splits `NAME=value` of the command line into the name and a gin literal.

    A value that is no Python literal, reference or macro is taken as a string, so
    that `--gin.METHOD=finetune` needs no quotes within quotes.

    Raises:
      UserError: no `NAME=`, or a string without inner quotes that begins or ends with a space.
    """
    left, equals, right = text.partition("=")
    name = left.strip()
    if not equals or not name:
        raise UserError(f"got --gin.{text}, expected --gin.NAME=value")
    value = right.lstrip() if left != name else right  # `NAME = value`
    if value.lstrip().startswith(("@", "%", "{", "[", "(")):
        return name, value.lstrip()
    try:
        if problem := too_many_digits(value):
            raise UserError(f"got --gin.{name} with {problem}")
        ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if value != value.strip():
            raise UserError(
                f"got --gin.{name}={value!r}, which begins or ends with a space; to keep the space "
                f"use {gin_errors.in_quotes(f'--gin.{name}', value)}"
            ) from None
        return name, repr(value)
    return name, value.strip()


def read_gin(gin_files: Iterable[str], overrides: Sequence[str] = ()) -> Macros:
    """Reads gin files (with their includes) and command-line overrides.

    Args:
      gin_files: resolved paths, in order; later settings win.
      overrides: `NAME=value` texts; a NAME that is a macro must be declared in a file.

    Raises:
      UserError: a file that is missing or does not parse (with file and line), an
        override of a macro that no file declares.
    """
    macros, delegate = Macros(), _Delegate()
    for path in gin_files:
        _read_file(path, macros, delegate, ())
    declared = set(macros.history)
    for text in overrides:
        name, value = parse_override(text)
        if name.isupper() and name not in declared:
            raise macros.undeclared(name, f"--gin.{name}")
        _read_text(f"{name} = {value}", f"--gin.{name}", macros, delegate, ())
    macros.used = delegate.used
    return macros


def _read_file(path: str, macros: Macros, delegate: _Delegate, parents: tuple[str, ...]) -> None:
    if path in parents:
        raise UserError(f"gin files include each other in a cycle: {' -> '.join([*parents, path])}")
    text = read_text(epath.Path(path))
    _read_text(text, _short(path), macros, delegate, (*parents, path))


def _read_text(
    text: str, label: str, macros: Macros, delegate: _Delegate, parents: tuple[str, ...]
) -> None:
    parser = config_parser.ConfigParser(text, delegate)
    while True:
        try:
            statement = next(parser)
        except StopIteration:
            return
        except _UNREADABLE as error:
            if label.startswith("--"):
                raise gin_errors.unreadable_override(error, text, label) from None
            raise gin_errors.unreadable_file(error, text, label) from None
        line = statement.location.line_num
        where = label if label.startswith("--") else f"{label}:{line}"
        # The parser has already seen this statement's references.
        for name, seen in delegate.used.items():
            if not seen:
                delegate.used[name] = where
        if isinstance(statement, config_parser.IncludeStatement):
            _read_file(files.resolve_path(statement.filename, where), macros, delegate, parents)
        elif isinstance(statement, config_parser.BindingStatement) and not statement.arg_name:
            _check_literal(statement.selector, statement.value, where)
            settings = macros.history.setdefault(statement.selector, [])
            settings.append(Setting(statement.value, where))
        elif "/engines/" in label:
            continue
        elif isinstance(statement, config_parser.BindingStatement):
            scope = f"{statement.scope}/" if statement.scope else ""
            name = f"{scope}{statement.selector}.{statement.arg_name}"
            macros.bindings[name] = Setting(statement.value, where)
            _note_file(parents, macros)
        elif isinstance(
            statement, config_parser.ImportStatement
        ) and not statement.module.startswith("__"):
            macros.imports.setdefault(statement.module, where)
            _note_file(parents, macros)


def _check_literal(name: str, value: Any, where: str, depth: int = 0) -> None:
    """Refuses what no setting has, and no message or file can hold.

    Raises:
      UserError: names the macro and where it is set.
    """
    place = "" if where.startswith("--") else f"{where}: "
    if depth > _DEEPEST:
        raise UserError(f"{place}{name} nests lists more than {_DEEPEST} deep")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise UserError(
            f"{place}got an integer of {value.bit_length():,} bits for {name}, expected at most "
            f"{_LARGEST}"
        )
    if isinstance(value, float) and not abs(value) <= sys.float_info.max:
        raise UserError(f"{place}got {name} = {value}, expected a finite number")
    if isinstance(value, str) and not value.isascii() and not _is_utf8(value):
        raise UserError(f"{place}got {name} = {value!r}, which contains an unpaired surrogate")
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{place}got {name} = {value!r}, which contains a NUL character")
    items = value.items() if isinstance(value, dict) else ()
    for item in (*(each for pair in items for each in pair), *_elements(value)):
        _check_literal(name, item, where, depth + 1)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _elements(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple | set) else ()


def _note_file(parents: tuple[str, ...], macros: Macros) -> None:
    """Keeps the digest of the file that is read, the last of `parents`; none on a command line."""
    if parents and parents[-1] not in macros.binding_files:
        macros.binding_files[parents[-1]] = sha256(parents[-1])


def _short(path: str) -> str:
    """`path` from the gin root or working directory, where it lies below one of them."""
    for base in (str(files.gin_root()), os.getcwd()):
        if path.startswith(base + os.sep):
            return path[len(base) + 1 :]
    return path
