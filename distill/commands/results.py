"""`distill results`: lists, filters and sorts the records of a results folder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypedDict

from distill.commands import arguments
from distill.common.paths import check_path
from distill.common.progress import to_stderr
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.results.record import Record


class Listed(TypedDict):
    """What the command gives."""

    folder: str
    columns: list[str]
    records: list[dict[str, object]]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `results`."""
    text = "list, filter and sort the results of `distill sweep`"
    command = arguments.add(commands, "results", text, configured=False)
    command.add_argument("folder", help="the folder of distill sweep --out, or a records.jsonl")
    command.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only runs with this value of an axis or a field, such as method=finetune, "
        "labels>=500 or status!=done; repeatable, all have to hold",
    )
    command.add_argument(
        "--sort",
        action="append",
        default=[],
        metavar="NAME",
        help="sort by an axis or a field; --sort=-NAME from high to low; repeatable, the first "
        "counts most; default: the order in which the runs ended first",
    )
    command.add_argument(
        "--columns",
        default="",
        metavar="NAME,NAME",
        help="axes and fields to show; default: the axes, seed, status, accuracy, interval, "
        "n_test, steps, seconds",
    )
    command.add_argument(
        "--all", action="store_true", help="show every attempt, not only the last of each run"
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> Listed:
    """Reads, filters and sorts the records."""
    from distill.results import query, store

    check_path(options.folder, "folder")
    read = store.read_all if options.all else store.read
    records = read(options.folder)
    names = query.names_of(records)
    conditions = query.parse_conditions(options.where, names)
    columns = [part.strip() for part in options.columns.split(",") if part.strip()]
    if options.columns and not columns:
        raise UserError(f"got --columns={options.columns!r}, expected names, e.g. seed,accuracy")
    for name in columns:
        query.check_name(name, names, "--columns")
    found = query.sort(query.select(records, conditions), options.sort, names)
    if not found and (reason := query.unmet(records, conditions)):
        to_stderr(reason)
    return {
        "folder": options.folder,
        "columns": columns,
        "records": [record.to_json() for record in found],
    }


def show(listed: Listed) -> None:
    """Prints a table."""
    from distill.results import table
    from distill.results.record import from_json

    records: list[Record] = [from_json(content, "record") for content in listed["records"]]
    if not records:
        print("no run fulfills all conditions")
        return
    print(table.render(records, listed["columns"]))
    print(f"\n{table.count(records)}")
