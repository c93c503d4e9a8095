"""The argument parser of `distill`: argparse, whose errors are messages of the project."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from distill.errors import UserError

_EXPECTED: dict[object, str] = {int: "an integer", float: "a number"}
_REQUIRED = "the following arguments are required: "


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError, and takes no abbreviated flags.

    The parsers of its commands are of this class too.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Takes what `argparse.ArgumentParser` takes."""
        super().__init__(*arguments, **{**settings, "allow_abbrev": False, "exit_on_error": False})

    def parse_known_args(  # type: ignore[override]  # one of argparse's two overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses arguments.

        Where the command does not know an argument, a required one may be missing: what is unknown
        is probably a misspelling of it.

        Args:
          args: the arguments; None takes those of the process.
          namespace: takes the values; None makes one.

        Returns:
          The values, and the arguments that the command does not know.

        Raises:
          UserError: a value of another type, one that is not allowed, a value that is missing, a
            required argument that is missing.
        """
        try:
            return super().parse_known_args(args, namespace)
        except argparse.ArgumentError as error:
            if not error.message.startswith(_REQUIRED):
                raise UserError(_restyled(error)) from error
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False
        try:
            options, rest = super().parse_known_args(args, namespace)
        finally:
            for action in required:
                action.required = True
        missing = [action for action in required if getattr(options, action.dest) is None]
        if not any(text.startswith("-") for text in rest):
            raise UserError(self._describe_missing(missing, rest))
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Raises an error that `parse_known_args` words."""
        raise argparse.ArgumentError(None, message)

    def _describe_missing(self, missing: Sequence[argparse.Action], rest: Sequence[str]) -> str:
        command = self.prog.partition(" ")[2]
        first, help_of = missing[0], f"see {self.prog} --help"
        if isinstance(first, argparse._SubParsersAction):
            given = f"{command}: no action given" if command else "no command given"
            return f"{given}, expected one of {', '.join(first.choices)}; {help_of}"
        if len(missing) > 1:
            *others, last = map(_name, missing)
            return f"{', '.join(others)} and {last} are missing; {help_of}"
        if len(rest) == 1 and first.option_strings:
            return f"{command} does not take {rest[0]!r}; did you mean {_name(first)}={rest[0]}?"
        choices = first.choices and f"expected one of {', '.join(map(str, first.choices))}"
        text = choices or first.help
        return f"{_name(first)} is missing{f': {text}' if text else ''}; {help_of}"

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            if action.type not in _EXPECTED:
                raise UserError(error.message) from error
            raise UserError(
                f"got {_name(action)} {arg_string!r}, expected {_EXPECTED[action.type]}"
            ) from error

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Names the closest of the values that an argument may have."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = difflib.get_close_matches(str(value).casefold(), choices, n=1, cutoff=0.6)
        is_command = isinstance(action, argparse._SubParsersAction)
        got = f"unknown {action.dest} {value!r}" if is_command else f"got {_name(action)} {value!r}"
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{got}, expected one of {', '.join(choices)}{meant}")


def _name(action: argparse.Action) -> str:
    """What a message calls an argument: a flag, or the name of a positional one."""
    return action.option_strings[0] if action.option_strings else str(action.dest)


def _restyled(error: argparse.ArgumentError) -> str:
    """A message for what argparse says about a flag, e.g. "--seed: expected one argument"."""
    flag = (error.argument_name or "").partition("/")[0]
    if error.message == "expected one argument":
        return f"{flag} needs a value: {flag}=VALUE"
    if ignored := re.fullmatch(r"ignored explicit argument (.*)", error.message):
        return f"{flag} takes no value, got {ignored[1]}"
    return f"{flag}: {error.message}" if flag else error.message
