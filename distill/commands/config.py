"""`distill config`: shows a configuration, or where a macro got its value."""

from __future__ import annotations

import argparse
from typing import Any

from distill.commands import arguments
from distill.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `config`."""
    command = arguments.add(commands, "config", "show or explain a configuration", configured=True)
    command.add_argument("action", choices=("show", "explain"))
    command.add_argument("name", nargs="?", help="the macro to explain")

    def run(options: argparse.Namespace) -> dict[str, Any]:
        from distill.config.resolve import read_macros

        macros, engine, _ = read_macros(
            arguments.gin_files(options), options.overrides, options.engine
        )
        macros.check()
        if options.action == "show":
            settings = {
                name: {"value": macros.value(name), "where": macros.history[name][-1].where}
                for name in sorted(macros.history)
            }
            return {"engine": engine, "macros": settings}
        if not options.name:
            raise UserError("distill config explain NAME: give the macro to explain")
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
            return
        print(f"{result['name']} = {result['value']!r}")
        for index, setting in enumerate(reversed(result["settings"])):
            verb = "set by" if index == 0 else "which overrode"
            print(f"  {verb} {setting['where']}: {setting['value']!r}")

    command.set_defaults(run=run, show=show)
