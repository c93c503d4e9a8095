"""`distill data fetch | check | summary | build | merge`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments, data_check, data_merge
from distill.common import flags
from distill.common.phrases import number_of
from distill.errors import UserError, tells_on_interrupt
from distill.tickets.flags import BuildFlags

if TYPE_CHECKING:
    from distill.data.download.fetch import Fetched
    from distill.data.released.summary import SplitSummary
    from distill.tfds.build import Built


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `data` and its actions."""
    text = "fetch, check, summarize or build datasets; merge predictions"
    data = commands.add_parser("data", help=text, description=text)
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_fetch(actions)
    data_check.add(actions)
    _add_summary(actions)
    _add_build(actions)
    data_merge.add(actions)


def _add_fetch(actions: argparse._SubParsersAction) -> None:
    text = "fetch the released data of the paper and T5's vocabulary, checked by digest"
    command = arguments.add(actions, "fetch", text, configured=False)
    command.add_argument("--output", required=True, help="the folder to write to")
    command.add_argument(
        "--source",
        default="",
        metavar="URL",
        help="address or folder of a mirror that holds the files",
    )
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FILE",
        help="fetch only this file; repeatable",
    )
    command.add_argument(
        "--sha256",
        action="append",
        default=[],
        metavar="FILE=DIGEST",
        help="the sha256 that a file must have; repeatable",
    )

    def run(options: argparse.Namespace) -> Fetched:
        from distill.data.download.fetch import fetch

        digests = {}
        for text in options.sha256:
            name, equals, digest = text.partition("=")
            if not equals:
                raise UserError(f"--sha256: got {text!r}, expected FILE=DIGEST")
            digests[name] = digest
        kept = f"complete files are kept in {options.output}; the same command fetches the others"
        with tells_on_interrupt(kept):
            return fetch(options.output, options.source, digests, options.only)

    def show(result: Fetched) -> None:
        for file in result["files"]:
            status = "already exists" if file["was_there"] else "fetched"
            print(
                f"{file['file']} {status}: {file['bytes']:,} bytes, sha256 {file['sha256']}, "
                f"checked by {file['checked']}"
            )
        for name in ("raw_dir", "vocabulary_path"):
            if result[name]:
                print(f"--{name}={result[name]}")

    command.set_defaults(run=run, show=show)


def _add_summary(actions: argparse._SubParsersAction) -> None:
    text = "count rows, completions and tokens of the released data; report teacher accuracy"
    command = arguments.add(actions, "summary", text, configured=False)
    command.add_argument("--raw_dir", required=True, help="folder of the paper's released data")
    command.add_argument(
        "--vocabulary_path", default="", help="T5's SentencePiece model, to count tokens"
    )
    command.add_argument(
        "--teacher", default="palm", help="LLM whose completions to count: palm or gpt-neox"
    )
    command.add_argument("--dataset", help="only this dataset: esnli, anli1, cqa, svamp or asdiv")

    def run(options: argparse.Namespace) -> dict[str, dict[str, SplitSummary]]:
        from distill.common.progress import to_stderr
        from distill.data.released.summary import summarize_released

        splits: dict[str, SplitSummary] = {}
        for record in summarize_released(
            options.raw_dir, options.vocabulary_path, options.teacher, options.dataset
        ):
            name = record["split"] if options.dataset else f"{record['dataset']}/{record['split']}"
            splits[name] = record
            to_stderr(f"{name}: {number_of(record['rows'], 'row')} read")
        return {"splits": splits}

    def show(result: dict[str, dict[str, SplitSummary]]) -> None:
        from distill.data.released.summary import summary_table

        print(summary_table(result["splits"].values()))

    command.set_defaults(run=run, show=show)


def _add_build(actions: argparse._SubParsersAction) -> None:
    text = "build a TFDS dataset, for SeqIO's TfdsDataSource and T5X"
    command = arguments.add(actions, "build", text, configured=False)
    command.add_argument(
        "--dataset", required=True, help="esnli, anli1, cqa, svamp, asdiv, tickets or jsonl"
    )
    command.add_argument("--tfds_data_dir", required=True, help="the folder to build into")
    command.add_argument(
        "--raw_dir",
        default="",
        help="folder of the released data, or with --dataset=jsonl the folder of train.jsonl",
    )
    command.add_argument(
        "--teacher",
        help="for the released data: LLM whose completions to use, palm (default) or gpt-neox",
    )
    command.add_argument(
        "--name", help="with --dataset=jsonl: name of the built dataset; default: 'default'"
    )
    flags.add_flags(command.add_argument_group("tickets"), BuildFlags)

    def run(options: argparse.Namespace) -> Built:
        from distill.tfds.build import build_dataset

        tickets = flags.from_options(BuildFlags, options)
        if options.dataset != "tickets":
            flags.check_used(flags.given_flags(tickets), "with --dataset=tickets")
        if options.dataset != "jsonl" and options.name is not None:
            flags.check_used(["--name"], "with --dataset=jsonl")
        if options.dataset in ("tickets", "jsonl") and options.teacher is not None:
            flags.check_used(["--teacher"], "with released data, e.g. --dataset=esnli")
        if options.dataset == "tickets" and options.raw_dir:
            flags.check_used(["--raw_dir"], "with released data and with --dataset=jsonl")
        return build_dataset(
            options.dataset,
            options.tfds_data_dir,
            options.raw_dir,
            options.teacher or "palm",
            options.name or "default",
            tickets.settings(),
        )

    def show(result: Built) -> None:
        status = "already exists, built from the same source" if result["was_there"] else "built"
        rows = ", ".join(f"{split} {rows:,}" for split, rows in result["splits"].items())
        print(f"{result['tfds_name']} {status}: {rows} rows in {result['path']}")

    command.set_defaults(run=run, show=show)
