"""`distill config`: shows a configuration, or where a macro got its value."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from distill.commands import arguments
from distill.common.progress import to_stderr
from distill.errors import CheckFailed, NotSet, UserError

if TYPE_CHECKING:
    from distill.config.macros import Macros


def _faults(read: Macros) -> tuple[list[str], list[str]]:
    """What is not set that a run needs, and what `distill train` refuses before it reads data."""
    from distill.config import resolve
    from distill.data import datasets

    spec, errors = resolve.find_faults(read)
    if spec is not None:
        try:
            resolve.import_tasks()
            resolve.import_modules(read.imports)
            datasets.check_settings(spec)
        except UserError as error:
            errors.append(error)
    absent = [text for error in errors if isinstance(error, NotSet) for text in error.messages]
    refused = [str(error) for error in errors if not isinstance(error, NotSet)]
    return absent, list(dict.fromkeys(refused))


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `config`."""
    command = arguments.add(commands, "config", "show or explain a configuration", configured=True)
    command.add_argument("action", choices=("show", "explain"))
    command.add_argument("name", nargs="?", help="the macro to explain")

    def run(options: argparse.Namespace) -> dict[str, Any]:
        from distill.config import resolve
        from distill.convert.sizes import adopt_sizes

        macros, engine, _ = resolve.read_macros(
            arguments.gin_files(options), options.overrides, options.engine, adopt_sizes
        )
        macros.check()
        resolve.check_bindings(macros, engine)
        if options.action == "show":
            if options.name:
                raise UserError(
                    f"config show does not take {options.name!r}; did you mean distill config "
                    f"explain {options.name}?"
                )
            settings = {
                name: {"value": macros.value(name), "where": macros.history[name][-1].where}
                for name in sorted(macros.history)
            }
            absent, refused = _faults(macros)
            result = {"engine": engine, "macros": settings, "not_set": absent}
            if refused:
                raise CheckFailed(
                    f"`distill train` rejects this configuration: {'; also: '.join(refused)}",
                    result,
                )
            return result
        if not options.name:
            raise UserError("give the macro to explain: distill config explain NAME")
        history = macros.explain(options.name)
        return {
            "name": options.name,
            "value": macros.value(options.name),
            "settings": [{"value": s.value, "where": s.where} for s in history],
        }

    def show(result: dict[str, Any]) -> None:
        if "macros" in result:
            width = max(map(len, result["macros"]))
            for name, setting in result["macros"].items():
                print(f"{name:{width}}  {setting['value']!r}  # {setting['where']}")
            for message in result["not_set"]:
                to_stderr(f"must be set before a run: {message}")
            return
        print(f"{result['name']} = {result['value']!r}")
        for index, setting in enumerate(reversed(result["settings"])):
            verb = "set by" if index == 0 else "overrides"
            print(f"  {verb} {setting['where']}: {setting['value']!r}")

    command.set_defaults(run=run, show=show)
