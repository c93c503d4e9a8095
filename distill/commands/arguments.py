"""Arguments that several commands share."""

from __future__ import annotations

import argparse

from distill.errors import UserError


def add(
    commands: argparse._SubParsersAction, name: str, text: str, configured: bool
) -> argparse.ArgumentParser:
    """Adds a command with the flags that all, or all configured, commands have.

    Args:
      commands: the commands of `distill`.
      name: the command's name.
      text: one line of help.
      configured: whether it runs a configuration, and so takes gin files and macros.

    Returns:
      The command's parser; the caller sets its defaults `run` and `show`.
    """
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    if configured:
        command.add_argument(
            "--gin_file",
            action="append",
            default=[],
            metavar="FILE",
            help="a gin file, by path or project name; repeatable, later ones win",
        )
        command.add_argument("--size", help="a file of gin/sizes, by name: tiny, mini, ... xxl")
        command.add_argument("--engine", help="native or t5x; else the macro ENGINE")
        command.add_argument("--raw_dir", help="the released data (macro RAW_DIR)")
        command.add_argument("--vocabulary_path", help="SentencePiece model (VOCABULARY_PATH)")
        command.add_argument("--seed", type=int, help="macro SEED")
    if name in ("train", "evaluate", "predict"):
        command.add_argument(
            "--cache_dir",
            help="tokenized data and compiled programs; "
            "default $DISTILL_CACHE_DIR or ~/.cache/distill",
        )
    return command


def add_tfds_field(group: argparse._ArgumentGroup) -> None:
    """Adds `--field`, which maps features of a TFDS dataset to the fields of a row."""
    group.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=TEMPLATE",
        help="TFDS: what makes a field (id, input, label, choices); repeatable, e.g. "
        '--field input="premise: {premise} hypothesis: {hypothesis}" --field label=label',
    )


def gin_files(options: argparse.Namespace) -> list[str]:
    """The gin files that the options of a configured command name, that of the size last.

    Raises:
      UserError: no file is given; an unknown size.
    """
    from distill.config import files
    from distill.errors import unknown

    names = list(options.gin_file)
    if not names:
        listed = ", ".join(files.list_gin_files("experiments"))
        raise UserError(f"give an experiment with --gin_file; there are: {listed}")
    if options.size:
        sizes = [name.split("/")[-1].removesuffix(".gin") for name in files.list_gin_files("sizes")]
        if options.size not in sizes:
            raise unknown("size", options.size, sizes, "--size")
        names.append(f"gin/sizes/{options.size}.gin")
    return names
