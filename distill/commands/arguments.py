"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from distill.common.paths import check_distinct, check_output_file, check_path, path_exists
from distill.data.mapping.help_text import FIELD_HELP, LABEL_NAMES_HELP
from distill.errors import UserError

# Flags of all commands that take a path.
_PATHS = (
    *("gin_file", "run_dir", "cache_dir", "raw_dir", "vocabulary_path", "tfds_data_dir", "input"),
    *("test_input", "markdown", "init_from", "continue_from", "output", "output_dir", "checkpoint"),
    *("prompt", "check", "store", "released_dir", "teacher_row", "prices"),
    *("batch_write", "batch_read", "work_list", "collect"),
)
# Those of them that a command writes.
_WRITTEN = ("output", "markdown", "store", "released_dir", "teacher_row", "batch_write")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of each flag that has one, where its text does not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default not in (None, False, "", argparse.SUPPRESS) and action.default != []
        if shown and "default" not in text and action.option_strings:
            text += " (default: %(default)s)"
        return text


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
    command = commands.add_parser(name, help=text, description=text, formatter_class=HelpFormatter)
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    if configured:
        command.add_argument(
            "--gin_file",
            action="append",
            default=[],
            metavar="FILE",
            help="a gin file: a path, or a name such as tickets_step_by_step; repeatable, later "
            "files override earlier ones",
        )
        command.add_argument(
            "--gin.NAME",  # taken out of the arguments before they are parsed: here for the help
            action="append",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help="set a macro, as --gin.NAME=value, e.g. --gin.SEED=1; overrides the files; "
            "`distill config show` lists all macros",
        )
        command.add_argument("--size", help="model size, a file of gin/sizes: tiny, mini, ... xxl")
        # convert refuses it with a message of its own.
        is_refused = name == "convert"
        engine = argparse.SUPPRESS if is_refused else "native or t5x; default: the macro ENGINE"
        command.add_argument("--engine", help=engine)
        add_data_paths(command, "; also sets VOCABULARY and VOCAB_SIZE, unless you set them")
        command.add_argument(
            "--continue_from",
            help="a new run starts with the parameters, optimizer state and step of this "
            "checkpoint; sets CONTINUE_FROM",
        )
        command.add_argument("--seed", type=int, help="random seed; sets the macro SEED")
    if name in ("train", "evaluate", "predict"):
        command.add_argument(
            "--cache_dir",
            help="folder for tokenized data and compiled programs; "
            "default $DISTILL_CACHE_DIR or ~/.cache/distill",
        )
    if name in ("train", "evaluate"):
        command.add_argument(
            "--cache_workers",
            type=int,
            help="processes that tokenize data of more than 50,000 rows; default: one per core, at "
            "most 16",
        )
    return command


def add_data_paths(command: argparse.ArgumentParser, vocabulary: str = "") -> None:
    """Adds the flags that say where data, vocabulary and first checkpoint of a run lie.

    Args:
      command: that takes them.
      vocabulary: what else its `--vocabulary_path` does, for the help.
    """
    command.add_argument(
        "--raw_dir", help="folder of the paper's released data; sets the macro RAW_DIR"
    )
    command.add_argument(
        "--vocabulary_path",
        help=f"a SentencePiece model file; sets VOCABULARY_PATH{vocabulary}",
    )
    command.add_argument(
        "--init_from",
        help="a new run starts with the parameters of this checkpoint: a Hugging Face folder, "
        "a T5X checkpoint or a run folder; sets INIT_FROM",
    )


def check_paths(options: argparse.Namespace) -> None:
    """Looks at every path among the options of a command before the command starts.

    Raises:
      UserError: see `paths.check_path`, `paths.check_output_file`, `paths.check_distinct`; an
        empty --run_dir; names the flag.
    """
    given: list[tuple[str, str]] = []
    launches = getattr(options, "command", None) == "launch"  # says what of its own is missing
    if getattr(options, "run_dir", None) == "" and not launches:
        raise UserError("got --run_dir='', expected the path of a run folder")
    for name in _PATHS:
        value = getattr(options, name, None) or ()
        given += ((f"--{name}", path) for path in ((value,) if isinstance(value, str) else value))
    for flag, path in given:
        check_path(path, flag)
    for name in getattr(options, "output_files", ()):
        if getattr(options, name, None):
            check_output_file(getattr(options, name), f"--{name}")
    written = [(flag, path) for flag, path in given if flag.removeprefix("--") in _WRITTEN]
    # A name such as --prompt=tickets is no path, and what does not exist is not overwritten.
    read = [each for each in given if each not in written and path_exists(each[1])]
    check_distinct(written, read)
    for index, (flag, path) in enumerate(written):
        check_distinct([(flag, path)], written[:index], "writes")


def shorthands(options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """The settings of macros that flags stand for, e.g. --seed for SEED.

    --vocabulary_path also sets VOCABULARY and VOCAB_SIZE, unless the user did: on the command
    line, or in a gin file of theirs. Where another vocabulary is wanted, it says on stderr that the
    path is ignored.

    Args:
      options: of a configured command.
      overrides: `NAME=value` texts of the command line, which go before these.

    Raises:
      UserError: gin files that do not read; a macro that both kinds of flags set, differently.
    """
    pairs = (
        ("RAW_DIR", "raw_dir"),
        ("VOCABULARY_PATH", "vocabulary_path"),
        ("SEED", "seed"),
        ("INIT_FROM", "init_from"),
        ("CONTINUE_FROM", "continue_from"),
    )
    settings = [
        f"{macro}={getattr(options, flag)!r}"
        for macro, flag in pairs
        if getattr(options, flag, None) is not None
    ]
    _check_twice(settings, overrides)
    if getattr(options, "gin_file", None) and getattr(options, "vocabulary_path", None):
        settings += _vocabulary_settings(options, (*overrides, *settings))
    return settings


def _check_twice(settings: Sequence[str], overrides: Sequence[str]) -> None:
    """Refuses a macro that --gin.NAME sets to something else than the flag that stands for it."""
    given = {
        name.strip(): value.strip() for name, _, value in (o.partition("=") for o in overrides)
    }
    for setting in settings:
        macro, _, value = setting.partition("=")
        if macro in given and given[macro].strip("'\"") != value.strip("'\""):
            raise UserError(
                f"got --{macro.lower()}={value} and --gin.{macro}={given[macro]}, expected only "
                "one of them"
            )


def _vocabulary_settings(options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    from distill.common.progress import to_stderr
    from distill.config import files, resolve
    from distill.config.data import T5_VOCAB_SIZE
    from distill.convert.sizes import adopt_for, adopt_sizes

    adopt = adopt_for(options.run_dir) if getattr(options, "run_dir", None) else adopt_sizes
    read, _, _ = resolve.read_macros(gin_files(options), overrides, options.engine, adopt)
    shipped = set(files.list_gin_files())
    by_user = {
        name: settings[-1].where.rpartition(":")[0] not in shipped
        for name, settings in read.history.items()
    }
    value, where = read.value("VOCABULARY"), read.history["VOCABULARY"][-1].where
    if value == "sentencepiece":
        return []
    if by_user["VOCABULARY"]:
        to_stderr(
            f"--vocabulary_path={options.vocabulary_path} is ignored: VOCABULARY = {value!r}, set "
            f"by {where}, does not use a SentencePiece model"
        )
        return []
    settings = ["VOCABULARY='sentencepiece'"]
    if not by_user["VOCAB_SIZE"] and "VOCAB_SIZE" not in read.adopted:
        settings.append(f"VOCAB_SIZE={T5_VOCAB_SIZE}")
    to_stderr(f"--vocabulary_path sets {' and '.join(settings)}")
    return settings


def command_of(options: argparse.Namespace) -> str:
    """What the parser took as the command: "train", or "data check"."""
    return " ".join(filter(None, (options.command, getattr(options, "action", None))))


def add_answer(command: argparse.ArgumentParser) -> None:
    """Adds `--answer`: where a student's answers come from."""
    command.add_argument(
        "--answer",
        choices=("decode", "rank"),
        default="decode",
        help="decode: the tokens that the student writes; rank: the most probable label of the "
        "closed set (LABELS or the row's choices), without decoding",
    )


def add_model_parallel(command: argparse.ArgumentParser) -> None:
    """Adds `--model_parallel`: how many devices hold a student together."""
    command.add_argument(
        "--model_parallel",
        type=int,
        metavar="N",
        help="devices of a process that split the student, for one that does not fit on a device; "
        "default 1: each device holds all of it and answers its share of the rows",
    )


def model_parallel(options: argparse.Namespace) -> int:
    """The value of `--model_parallel`.

    Raises:
      UserError: it is below 1.
    """
    count = 1 if options.model_parallel is None else int(options.model_parallel)
    if count < 1:
        raise UserError(f"got --model_parallel={count}, expected at least 1")
    return count


def add_trained_fields(group: argparse._ActionsContainer, field_help: str) -> None:
    """Adds `--field`, `--label_names` and `--labels` of rows that a student is trained on.

    Args:
      group: of the command.
      field_help: of `--field`.
    """
    group.add_argument(
        "--field", action="append", default=[], metavar="NAME=TEMPLATE", help=field_help
    )
    group.add_argument("--label_names", default="", metavar="NAMES", help=LABEL_NAMES_HELP)
    group.add_argument(
        "--labels", metavar="LABEL,LABEL", help="the closed set of labels; default: from the rows"
    )


def labels_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The labels that `--labels` names."""
    return tuple(filter(None, (part.strip() for part in (options.labels or "").split(","))))


def add_mapping(group: argparse._ActionsContainer) -> None:
    """Adds `--field` and `--label_names`, which make rows of the records of a file or dataset."""
    group.add_argument(
        "--field", action="append", default=[], metavar="NAME=TEMPLATE", help=FIELD_HELP
    )
    group.add_argument("--label_names", default="", metavar="NAMES", help=LABEL_NAMES_HELP)


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
        raise UserError(f"give an experiment with --gin_file; available: {listed}")
    if options.size:
        sizes = [name.split("/")[-1].removesuffix(".gin") for name in files.list_gin_files("sizes")]
        if options.size not in sizes:
            raise unknown("size", options.size, sizes, "--size")
        names.append(f"gin/sizes/{options.size}.gin")
    return names
