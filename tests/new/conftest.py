"""Files of rows, and the commands of a folder that `distill new` made."""

from __future__ import annotations

import pathlib
import shlex
import subprocess
from collections.abc import Callable

import pytest
import three_files

from distill.new.create import create
from distill.new.task import Created, Request


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> pathlib.Path:
    """A folder with tickets.csv, reviews.jsonl and questions.parquet."""
    folder = tmp_path_factory.mktemp("files")
    three_files.write_tickets(folder / "tickets.csv")
    three_files.write_reviews(folder / "reviews.jsonl")
    three_files.write_questions(folder / "questions.parquet")
    return folder


@pytest.fixture
def new(tmp_path, monkeypatch) -> Callable[..., tuple[Created, pathlib.Path]]:
    """`new(file, **flags)`: the result, and the folder, which becomes the working directory."""

    def make(file: pathlib.Path, **flags) -> tuple[Created, pathlib.Path]:
        folder = tmp_path / "task"
        created = create(Request(str(folder), str(file), **flags))
        monkeypatch.chdir(folder)
        return created, folder

    return make


def make_lines(folder: pathlib.Path, target: str, *variables: str) -> list[list[str]]:
    """The arguments of each `distill` command that a target of the Makefile runs."""
    command = ["make", "--no-print-directory", "-n", target, "DISTILL=distill", *variables]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    lines = done.stdout.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines]
    assert commands and all(each[0] == "distill" for each in commands)
    return [each[1:] for each in commands]


@pytest.fixture
def commands() -> Callable[..., list[list[str]]]:
    """`commands(folder, target, *variables)`: see `make_lines`."""
    return make_lines
