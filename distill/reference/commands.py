"""docs/reference/commands.md: every command with its usage and flags, from the argparse parsers."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence

from distill import cli
from distill.reference.markdown import code, plain, table

_HEADER = """\
# Commands

<!-- Generated: do not edit. Write it again with `python -m distill.reference`. -->

`distill COMMAND --help` prints the same texts. Commands with `--gin_file` also take any macro as
`--gin.NAME=value` ([macros.md](macros.md)).

Exit codes: 0 success; 2 bad input, explained on stderr; 70 an error in distill itself; 75 a host of
the run is missing, has died or hangs; 130 Ctrl-C; 143 SIGTERM; 129 SIGHUP; 141 the reader of stdout
is gone. [Whether to repeat the command](../troubleshooting.md#exit-codes).
"""


_CONFIGURED = """\
## Configuration flags

Commands that read a configuration share these flags.
"""


def render() -> str:
    """The content of the page."""
    parsers = list(leaves(cli.make_parser()))
    shared = _shared(parsers)
    sections = [_section(parser, shared) for parser in parsers]
    return "\n".join([_HEADER, *sections, _CONFIGURED, _table(parsers[0], list(shared.values()))])


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the commands, and of the actions of commands that have actions."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from leaves(child)
            return
    yield parser


def _shared(parsers: Sequence[argparse.ArgumentParser]) -> dict[str, argparse.Action]:
    """The flags that each command with --engine, and so with a configuration, has or hides."""
    by_command = [
        {_name(action): action for action in parser._actions}
        for parser in parsers
        if "--engine" in parser._option_string_actions
    ]
    first = by_command[0]
    return {
        name: action
        for name, action in first.items()
        if _is_shown(action) and all(name in flags for flags in by_command)
    }


def _section(parser: argparse.ArgumentParser, shared: dict[str, argparse.Action]) -> str:
    parts = [f"## {parser.prog}\n", f"{plain(parser.description or '')}\n", _usage(parser)]
    configured = "--engine" in parser._option_string_actions
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if _is_shown(action) and not (configured and _name(action) in shared)
        ]
        if not actions:
            continue
        if group.title not in ("options", "positional arguments"):
            parts.append(f"**{plain(group.title or '')}**\n")
        parts.append(_table(parser, actions))
    if configured:
        hidden = [each for each in parser._actions if each.help is argparse.SUPPRESS]
        but = "".join(
            f", except {code(each.option_strings[0])}" for each in hidden if _name(each) in shared
        )
        parts.append(f"It also takes the [configuration flags](#configuration-flags){but}.\n")
    if parser.epilog:
        parts.append(f"```text\n{textwrap.dedent(parser.epilog).strip()}\n```\n")
    return "\n".join(parts)


def _table(parser: argparse.ArgumentParser, actions: Sequence[argparse.Action]) -> str:
    header = ("Flag" if actions[0].option_strings else "Argument", "Default", "Meaning")
    return table(header, [(_name(a), _default(a), _help(parser, a)) for a in actions]) + "\n"


def _usage(parser: argparse.ArgumentParser) -> str:
    """The command with what it requires; argparse's own differs between versions of Python."""
    words = [parser.prog]
    for action in parser._actions:
        if action.option_strings and action.required:
            words.append(f"{action.option_strings[-1]}={_value(action)}")
    words.append("[flags]")
    for action in parser._actions:
        if not action.option_strings:
            many = {"*": f"[{_value(action)} ...]", "?": f"[{_value(action)}]"}
            words.append(many.get(str(action.nargs), _value(action)))
    return f"```text\n{' '.join(words)}\n```\n"


def _is_shown(action: argparse.Action) -> bool:
    return action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(_value(action))
    value = "" if action.nargs == 0 else f"={_value(action)}"
    return ", ".join(code(f"{flag}{value}") for flag in action.option_strings)


def _value(action: argparse.Action) -> str:
    """What the value of an argument is called."""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _default(action: argparse.Action) -> str:
    """The default as code; "" without one, or where the text of the flag says what it is."""
    default = action.default
    if action.required and action.nargs != "*":
        return "required"
    if default is None or default is False or default in ("", [], argparse.SUPPRESS):
        return ""
    return code(f"{default:g}" if isinstance(default, float) else default)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The text of the flag, without a default that has its own column."""
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    default = _default(action).strip("`")
    if default:
        text = text.removesuffix(f" (default: {default})").removesuffix(f"; default {default}")
    return plain(text)
