"""`distill annotate`: labels and rationales for rows, from a language model."""

from __future__ import annotations

import argparse

from distill.commands import arguments

TEXT = "label rows and give reasons, by any OpenAI-compatible endpoint or the simulated teacher"
EPILOG = """\
  distill annotate --input=rows.jsonl --prompt=mine.toml --model=NAME \\
      --base_url=http://localhost:8000/v1 --output=annotated.jsonl

asks for every row that the store (annotated.store) does not hold yet, and writes training
rows. The API key is read from the environment (OPENAI_API_KEY, or --key_env). Without a
prompt, a model and rows, tickets of the embedded dataset are written as the simulated teacher sees
them.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `annotate`."""
    command = arguments.add(commands, "annotate", TEXT, configured=False)
    command.epilog = EPILOG
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_rows(
        command.add_argument_group("rows (one of these; default: tickets of the embedded dataset)")
    )
    _add_prompt(command.add_argument_group("prompt and model"))
    _add_limits(command.add_argument_group("endpoint, limits, costs"))
    _add_output(command.add_argument_group("what is kept and written"))
    _add_modes(command.add_argument_group("instead of asking"))
    command.set_defaults(run=_run, show=_show)


def _add_rows(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--input", metavar="FILE", help="JSONL or CSV with the field input")
    add("--raw_dir", help="the released layout, with --dataset and --split")
    add("--tfds", metavar="NAME", help="a TFDS dataset, e.g. esnli:0.1.0, with --field")
    add("--tfds_data_dir", metavar="DIR", help="where TFDS keeps its datasets")
    add("--field", action="append", default=[], metavar="NAME=TEMPLATE",
        help='TFDS: e.g. input="premise: {premise} hypothesis: {hypothesis}"')  # fmt: skip
    add("--dataset", help="released layout: esnli, anli1, cqa, svamp or asdiv")
    add("--split", default="train", help="of the rows; default train")
    add("--policy", default="natural", help="tickets: natural or hard")
    add("--rows", type=int, default=2000, help="tickets: number of rows")
    add("--seed", type=int, default=0, help="tickets: seed of the rows")
    add("--teacher_accuracy", type=float, default=1.0, help="tickets: of the simulated teacher")


def _add_prompt(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--prompt", metavar="NAME|FILE",
        help="esnli, anli1, cqa, svamp, tickets, or a .toml file; default: --dataset")  # fmt: skip
    add("--model", help="the model's name at the endpoint")
    add("--api", default="chat", choices=("chat", "completions"))
    add("--samples", type=int, default=1, help="answers a row; the majority's label counts")
    add("--temperature", type=float, help="default 0 for one sample, 0.7 for several")
    add("--top_p", type=float)
    add("--max_tokens", type=int, help="of a completion; default: the prompt's")
    add("--sample_seed", type=int, help="sample k is drawn with this + k (if the server can)")
    add("--no_stop", action="store_true", help="send no stops (some models refuse them)")
    add("--extra", default="{}", metavar="JSON", help="further fields of every request")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--base_url", help="default: $OPENAI_BASE_URL or OpenAI")
    add("--key_env", default="OPENAI_API_KEY", metavar="NAME",
        help="the environment variable with the API key")  # fmt: skip
    add("--api_key", "--key", type=_no_key, help=argparse.SUPPRESS)
    add("--any_model", action="store_true", help="take answers of a model of another name")
    add("--concurrency", type=int, default=16, help="requests under way at once")
    add("--requests_per_minute", type=float)
    add("--tokens_per_minute", type=float)
    add("--timeout", type=float, default=120.0, help="seconds for one request")
    add("--max_attempts", type=int, default=10, help="requests before a row fails")
    add("--backoff_seconds", type=float, default=0.5, help="first wait after a failure")
    add("--max_failures", type=int, default=50, help="rows that fail in turn until the job stops")
    add("--max_rows", type=int, help="ask for so many rows, then stop")
    add("--max_cost", type=float, metavar="USD", help="stop before this run costs more")
    add("--prices", metavar="FILE", help='JSON: {"model": {"in": USD, "out": USD}} a million')
    add("--progress_seconds", type=float, default=10.0, help="between progress lines; 0: none")


def _no_key(_: str) -> str:
    raise argparse.ArgumentTypeError(
        "a key is never given as an argument, where every process can read it; put it in the "
        "environment (see --key_env)"
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output", metavar="FILE", help="JSONL of training rows")
    add("--store", metavar="DIR", help="where answers are kept; default <output>.store")
    add("--released_dir", metavar="DIR", help="also write the released layout, for --dataset")
    add("--teacher_row", metavar="FILE", help="write the teacher's own accuracy as JSON")
    add("--rationales", type=int, default=1, help="agreeing rationales a row, each a row")
    add("--min_agreement", type=float, default=0.0, help="drop: fewer samples agree (share)")
    add("--gold_only", action="store_true", help="drop: the label is not the gold label")
    add("--min_words", type=int, help="drop: a shorter rationale")
    add("--max_words", type=int, help="drop: a longer rationale")
    add("--drop_leaks", action="store_true", help="drop: the rationale names the label")
    add("--drop_unparsed", action="store_true", help="drop: no label could be read")
    add("--retry_failed", action="store_true", help="ask again for rows that failed before")


def _add_modes(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--dry_run", action="store_true", help="show the first prompt and the estimate")
    add("--check", metavar="NAME|FILE", help="lint a prompt, against the rows if given")
    add("--reparse", action="store_true", help="write again from the store, ask nothing")
    add("--batch_write", metavar="FILE", help="write the requests as a batch file")
    add("--batch_read", metavar="FILE", action="append", help="read results; repeatable")


def _run(options: argparse.Namespace) -> dict[str, object]:
    from distill.teacher import pipeline

    return pipeline.run_annotate(options)


def _show(result: dict[str, object]) -> None:
    from distill.teacher import summary

    print(summary.text(result))
