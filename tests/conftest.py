"""Fixtures that several folders of tests use."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

import hypothesis
import pytest

from distill.config import resolve

# An example may take any time: machines are busy. tests/fuzz has profiles of its own.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Files that take a minute or so. They start first, so that no process is left with one at the end.
LONG = (
    "tests/training/test_hosts.py",
    "tests/training/test_invariance.py",
    "tests/training/test_killed.py",
    "tests/training/test_choice.py",
    "tests/training/test_step.py",
    "tests/engines/test_init_from_live.py",
    "tests/faults/test_faults.py",
    "tests/docs/test_shell_blocks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of LONG before the others; the order is otherwise as collected."""
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in LONG)


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder with the authors' released data and the T5 vocabulary, or a skip.

    The environment variable DISTILL_SHARED names it; without it, `shared` next to the
    checkout is tried. Its content is licensed separately and not part of the project.
    """
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared"
    folder = pathlib.Path(os.environ.get("DISTILL_SHARED") or beside)
    if not (folder / "data").is_dir():
        pytest.skip(f"no released data in {folder}; set DISTILL_SHARED to the folder that has it")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Tokenized data and compiled programs of the whole session, away from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["DISTILL_CACHE_DIR"] = str(folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return folder


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """An object store of the whole session, as TensorFlow reads its settings once."""
    import object_store

    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificate of the object store")
    with object_store.serving(tmp_path_factory.mktemp("object_store")) as served:
        yield served


@pytest.fixture
def objects(object_server: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The object store, empty; gs:// leads to it, in processes that a test starts too."""
    store, environment = object_server
    store.clear()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield store
    store.clear()


# A student and a data set so small that a step compiles in seconds.
MICRO = (
    "EMBED_DIM=16",
    "MLP_DIM=16",
    "NUM_HEADS=2",
    "HEAD_DIM=8",
    "NUM_ENCODER_LAYERS=1",
    "NUM_DECODER_LAYERS=1",
    "NUM_ROWS=80",
    "NUM_TEST=24",
    "NUM_LABELS=60",
    "BATCH_SIZE=8",
    "TRAIN_STEPS=12",
    "WARMUP_STEPS=2",
    "LOG_PERIOD=2",
    "SAVE_PERIOD=4",
    "EVAL_PERIOD=6",
    "EVAL_BATCH_SIZE=16",
)


@pytest.fixture(scope="session")
def train_command() -> Callable[..., list[str]]:
    """(run folder, macro settings, *flags) -> the command that trains on tickets."""

    def command(folder: pathlib.Path, settings: Sequence[str], *flags: str) -> list[str]:
        macros = [f"--gin.{text}" for text in settings]
        names = ["--gin_file=tickets_step_by_step", f"--run_dir={folder}"]
        return [sys.executable, "-m", "distill.cli", "train", *names, *macros, *flags]

    return command


@pytest.fixture(scope="session")
def micro() -> tuple[str, ...]:
    """Overrides that shrink an experiment on `tickets` to a few seconds."""
    return MICRO


@pytest.fixture(scope="session")
def resolved(micro: tuple[str, ...]) -> resolve.Resolved:
    """The configuration of the run."""
    return resolve.resolve(["tickets_step_by_step"], micro)


@pytest.fixture(scope="session")
def run_dir(resolved: resolve.Resolved, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Its folder; lines.txt holds what it said."""
    from distill.engines import native

    folder = tmp_path_factory.mktemp("run") / "a"
    lines: list[str] = []
    native.train(resolved, folder, lines.append)
    (folder / "lines.txt").write_text("\n".join(lines))
    return folder
