"""Bash for the blocks of the pages, whose `distill` commands this process answers.

A process of its own for each command would load jax and TensorFlow each time. Here `distill` is a
small client: it sends its arguments to this process, which calls the command line's functions.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from unittest import mock

from etils import epath
from shell_blocks import ROOT

from distill import cli
from distill.commands import arguments
from distill.config import adopted, files, macros, resolve
from distill.convert import sizes

_CLIENT = """\
import json, os, socket, sys
stdin = sys.stdin.read() if "--input=-" in sys.argv else ""
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
server.sendall(json.dumps([sys.argv[2:], os.getcwd(), stdin]).encode())
server.shutdown(socket.SHUT_WR)
code, out, err = json.loads(server.makefile("rb").read())
sys.stdout.write(out), sys.stderr.write(err)
sys.exit(code)
"""
CHECKPOINT = epath.Path(ROOT / "tests" / "golden" / "hf_loss")
Answer = Callable[[Sequence[str]], int]


def run_bash(script: str, folder: pathlib.Path, answer: Answer, dry: bool) -> list[str]:
    """Runs a script of bash, and answers its commands.

    Args:
      script: the block.
      folder: where it runs.
      answer: gets the words of each command, prints, and returns its exit code.
      dry: whether every program is sent to `answer`, and none is run; else `distill` alone.

    Returns:
      The commands that were answered.

    Raises:
      AssertionError: the script failed; with all that was printed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="sh") as scratch,
        socket.socket(socket.AF_UNIX) as server,
    ):
        place = pathlib.Path(scratch)
        server.bind(str(place / "socket"))
        server.listen()
        server.settimeout(0.05)
        (place / "client.py").write_text(_CLIENT)
        client = shlex.join([sys.executable, "-S", "-E", f"{place}/client.py", f"{place}/socket"])
        prelude = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
        prelude += f'distill() {{ {client} distill "$@"; }}\n'
        if dry:
            prelude += f'command_not_found_handle() {{ {client} "$@"; }}\n'
            prelude += "cd() { :; }\nsource() { :; }\n"
            script = re.sub(r"(?<!\S)[\w.~-]+/bin/(?=\w)", "", script)
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": str(place / "empty") if dry else path}
        command = ["/bin/bash", "-e", "-o", "pipefail", "-c", f"{prelude}{script}\nwait\n"]
        with open(place / "out", "w+") as out:
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
            answered, failed = _serve(server, process, answer)
            out.seek(0)
            said = out.read()
    assert process.returncode == 0, f"exit code {process.returncode} of\n{script}\n\n{said}"
    # bash does not tell of commands that fail in the background.
    assert not (dry and failed), f"failed: {failed}\n\n{said}"
    return answered


def _serve(
    server: socket.socket, process: subprocess.Popen, answer: Answer
) -> tuple[list[str], list[str]]:
    """The commands that were answered, and those of them that failed."""
    answered, failed = [], []
    while process.poll() is None:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            words, folder, stdin = json.loads(connection.makefile("rb").read())
            answered.append(shlex.join(words))
            reply = _captured(answer, words, folder, stdin)
            if reply[0]:
                failed.append(answered[-1])
            connection.sendall(json.dumps(reply).encode())
    return answered, failed


def _captured(
    answer: Answer, words: Sequence[str], folder: str, stdin: str
) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    before, stdin_before = os.getcwd(), sys.stdin
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            os.chdir(folder)
            sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
            code = answer(words)
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=err)
            code = 1
        finally:
            os.chdir(before)
            sys.stdin = stdin_before
    return code, out.getvalue(), err.getvalue()


def run_command(words: Sequence[str], micro: Sequence[str]) -> int:
    """Runs a `distill` command, a command that trains with settings for a tiny student.

    Args:
      words: `distill` and its arguments.
      micro: `NAME=value` texts; those whose macro the configuration has are appended.
    """
    argv = list(words[1:])
    if argv[0] in ("train", "loss-weights"):
        options, overrides = _options(argv)
        names = arguments.gin_files(options)
        declared = resolve.read_macros(names, overrides, options.engine)[0].history
        argv += [f"--gin.{text}" for text in micro if text.partition("=")[0] in declared]
    return cli.main(argv)


def check_command(words: Sequence[str]) -> int:
    """Checks a command without running it.

    `distill`: its arguments are parsed, and its gin files and overrides resolved. T5X's own
    scripts: their gin files and macros. `make`: the target. `python`: the file or module. Of
    `srun`, `bash -c` and `gcloud compute ssh`: the command that they start.
    """
    name, *argv = words
    if name == "distill":
        options, overrides = _options(argv)
        if str(getattr(options, "run_dir", None)).startswith("gs://"):
            options.run_dir = None  # a bucket is not asked whether the run exists
        if getattr(options, "gin_file", None) and hasattr(options, "engine"):
            with mock.patch.object(sizes, "adopt_sizes", _adopt):
                overrides += arguments.shorthands(options, overrides)
                names = arguments.gin_files(options)
                resolve.resolve(names, overrides, options.engine, _adopt)
    elif name == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(argv) <= set(targets), f"no target {argv}"
    elif name in ("python", "python3") and argv[:1] == ["-m"]:
        _check_module(argv[1], argv[2:])
    elif name in ("python", "python3", "bash") and argv and not argv[0].startswith("-"):
        assert (ROOT / argv[0]).is_file(), f"no file {argv[0]}"
    else:
        for inner in _commands_within(name, argv):
            check_command(inner)
    return 0


def _commands_within(name: str, argv: Sequence[str]) -> list[list[str]]:
    """The commands that srun, `bash -c` and `gcloud compute ssh` start."""
    if name == "srun":
        return [list(itertools.dropwhile(lambda word: word.startswith("-"), argv))]
    if name == "bash" and argv[:1] == ["-c"]:
        return [shlex.split(re.sub(r"\$\w+", "1", argv[1]).replace("\\\n", ""))]
    if name == "gcloud":
        if "list-instances" in argv:
            print("HOST")  # a name for loops over hosts
        texts = [word.partition("=")[2] for word in argv if word.startswith("--command=")]
        return [shlex.split(text.rpartition("train.sh start ")[2]) for text in texts]
    return []


def _adopt(read: macros.Macros) -> adopted.Adopted | None:
    """What the checkpoint FOLDER decides: some sizes, where nothing else sets them."""
    _, path = adopted.source_of(read)
    if "FOLDER" not in path:
        return None
    found = sizes._of_hugging_face(CHECKPOINT)
    unset = {name: s for name, s in found.sizes.items() if adopted.is_unset(read, name)}
    return adopted.Adopted(unset, found.defaults)


def _options(argv: Sequence[str]):
    given, overrides = cli._split_overrides(argv)
    options, rest = cli.make_parser().parse_known_args(given)
    assert not rest, f"arguments that {options.command} does not take: {rest}"
    return options, overrides


def _check_module(module: str, argv: Sequence[str]) -> None:
    if module.startswith("t5x."):
        given, overrides = cli._split_overrides(argv)
        names = [text.partition("=")[2] for text in given if text.startswith("--gin_file=")]
        assert names, f"{module} needs gin files"
        macros.read_gin([files.resolve_path(name) for name in names], overrides).check()
    elif module.startswith("distill."):
        assert importlib.util.find_spec(module) is not None, f"no module {module}"
