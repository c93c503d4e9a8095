"""Paths that no command can open: exit code 2, and one message that names the flag."""

import os
import stat

import pytest

from distill import cli
from distill.commands import arguments
from distill.common import disk
from distill.common.paths import check_path
from distill.errors import UserError
from distill.reference.commands import leaves

TICKETS = "--gin_file=tickets_step_by_step"
URL = "http://localhost/x"


def _refused(argv: list[str], capsys) -> str:
    assert cli.main(argv) == 2, capsys.readouterr().err
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("distill: ")]
    assert len(said) == 1
    return said[0]


def test_every_flag_that_takes_a_path_is_checked():
    named = {
        action.dest
        for command in leaves(cli.make_parser())
        for action in command._actions
        if action.option_strings
        and (
            action.dest.endswith(("_dir", "_file", "_path"))
            or set((action.metavar or "").split("|")) & {"FILE", "DIR"}
        )
    }
    assert len(named) > 12
    assert named - set(arguments._PATHS) == {"only"}  # names of files that are fetched


FLAGS = {
    "gin_file": ["config", "show"],
    "run_dir": ["evaluate"],
    "cache_dir": ["loss-weights", TICKETS],
    "raw_dir": ["train", TICKETS],
    "vocabulary_path": ["data", "summary", "--raw_dir=x"],
    "init_from": ["train", TICKETS],
    "continue_from": ["train", TICKETS],
    "tfds_data_dir": ["data", "build", "--dataset=tickets"],
    "input": ["predict", "--run_dir=x"],
    "test_input": ["new", "x", "--input=y"],
    "markdown": ["report", "x", "--output=y.html"],
    "output": ["predict", "--run_dir=x", "hello"],
    "output_dir": ["predict", "--run_dir=nowhere", "--input=x.jsonl"],
    "checkpoint": ["convert", "--from=t5x", "--to=native", TICKETS, "--run_dir=x"],
    "prompt": ["annotate", "--input=x"],
    "check": ["annotate"],
    "store": ["annotate"],
    "released_dir": ["annotate"],
    "teacher_row": ["annotate"],
    "prices": ["annotate"],
    "batch_write": ["annotate"],
    "batch_read": ["annotate"],
    "work_list": ["launch", "run"],
    "collect": ["sweep", "x.toml", "--out=y"],
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_url_is_no_path(flag, capsys):
    assert set(FLAGS) == set(arguments._PATHS)
    said = _refused([*FLAGS[flag], f"--{flag}={URL}"], capsys)
    assert said.startswith(f"distill: got --{flag} '{URL}', expected a local path or one in a")


@pytest.mark.parametrize("scheme", ["ftp://a/b", "://x", "a/b://c", "GS://bucket/x"])
def test_other_schemes_are_no_paths(scheme, capsys):
    assert "expected a local path" in _refused(["evaluate", f"--run_dir={scheme}"], capsys)


def test_a_path_that_no_file_has_is_refused():
    with pytest.raises(UserError, match=r"got rows 'a\\x00', which .* a NUL"):
        check_path("a\0", "rows")
    with pytest.raises(UserError, match=r"got rows 'a\\ud800', which .*surrogate"):
        check_path("a\ud800", "rows")
    check_path(os.fsdecode(b"caf\xe9"), "rows")  # a name that is not UTF-8


def test_a_file_url_is_answered_with_its_path(capsys):
    said = _refused(["evaluate", "--run_dir=file:///tmp/run"], capsys)
    assert said.endswith("; did you mean /tmp/run?")


def test_a_file_above_the_file_to_write_is_refused(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    for argv in (["predict", "--run_dir=x", "hello"], ["report", str(tmp_path)]):
        flag = f"--output={file}/x.html"
        told = f"distill: got {flag}, but {file} is a file; expected a folder"
        assert _refused([*argv, flag], capsys) == told


@pytest.mark.parametrize("below", ["", "/a/b"])
def test_a_cache_folder_that_is_a_file_is_refused(below, tmp_path, monkeypatch, capsys):
    file = tmp_path / "file"
    file.touch()
    flag = f"--cache_dir={file}{below}"
    for command in (["train", TICKETS], ["predict", "--run_dir=x", "hello"], ["sweep", "x.toml"]):
        out = ["--out=x"] if command[0] == "sweep" else []
        told = f"distill: got {flag}, but {file} is a file; expected a folder"
        assert _refused([*command, *out, flag], capsys) == told
    monkeypatch.setenv("DISTILL_CACHE_DIR", f"{file}{below}")
    told = f"distill: got DISTILL_CACHE_DIR={file}{below}, but {file} is a file; expected a folder"
    assert _refused(["train", TICKETS, f"--run_dir={tmp_path}/run"], capsys) == told


def test_macros_with_paths_are_checked_too(capsys):
    settings = ["--gin_file=gin/data/jsonl.gin", f"--gin.TRAIN_FILE='{URL}'"]
    argv = ["train", "--gin_file=tickets_finetune", *settings, "--gin.LABELS=('x','y')"]
    assert f"got TRAIN_FILE '{URL}', expected a local path" in _refused(argv, capsys)
    argv = ["train", TICKETS, f"--vocabulary_path={URL}"]
    assert f"got --vocabulary_path '{URL}'" in _refused(argv, capsys)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["evaluate", "--run_dir=a\0b"], r"argument '--run_dir=a\x00b' contains a NUL"),
        (["predict", "--run_dir=x", "a\0b"], "contains a NUL character: remove it"),
        (["train", TICKETS, "--gin.DATASET='a\\0b'"], r"DATASET = 'a\x00b', which contains a NUL"),
    ],
)
def test_a_nul_character_is_refused(argv, message, capsys):
    assert message in _refused(argv, capsys)


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        (["predict", "--run_dir=x", "hello"], "output"),
        (["evaluate", "--run_dir=x"], "output"),
        (["annotate", "--rows=5"], "output"),
        (["annotate", "--rows=5"], "teacher_row"),
        (["annotate", "--rows=5"], "batch_write"),
    ],
)
def test_a_folder_is_no_file_to_write(argv, flag, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    for folder in (str(tmp_path), f"{tmp_path}/new/", f"~/{tmp_path.name}"):
        said = _refused([*argv, f"--{flag}={folder}"], capsys)
        assert (
            said
            == f"distill: got --{flag} {folder!r}, which is a folder; expected the name of a file"
        )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "a pipe or a device; expected" in _refused([*argv, f"--{flag}={pipe}"], capsys)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


@pytest.mark.parametrize("content", ["a = " + "[" * 5000, "a = " + "{a=" * 5000])
def test_toml_that_is_nested_too_deeply(content, tmp_path, capsys):
    (tmp_path / "deep.toml").write_text(content)
    said = _refused(["annotate", f"--check={tmp_path}/deep.toml"], capsys)
    told = (
        f"distill: {tmp_path}/deep.toml: not TOML (lists or tables nested too deeply). A prompt is"
    )
    assert said.startswith(told)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc, which takes no new files")
def test_a_run_folder_that_cannot_be_written_is_refused_before_rows_are_read(capsys):
    said = _refused(["train", TICKETS, "--run_dir=/proc/none/x"], capsys)
    assert said.startswith("distill: /proc cannot be written: ")
    assert said.endswith("; choose another --run_dir")


ROWS = ["annotate", "--prompt=tickets", "--model=m", "--dry_run"]


def test_a_file_that_the_system_does_not_read_is_named(capsys):
    said = _refused([*ROWS, "--input=/proc/self/mem"], capsys)
    assert "'/proc/self/mem' cannot be read: Input/output error" in said


def test_a_dry_run_refuses_a_store_that_is_a_file(tmp_path, capsys):
    (tmp_path / "store").write_text("")
    said = _refused([*ROWS, f"--store={tmp_path}/store"], capsys)
    assert said == f"distill: got --store, but {tmp_path}/store is a file; expected a folder"


def test_a_pipe_is_no_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    said = _refused([*ROWS, f"--input={tmp_path}/pipe"], capsys)
    assert f"{tmp_path}/pipe is a pipe or a device, expected a regular file" in said


def test_what_the_file_system_refuses_names_the_file():
    error = PermissionError(13, "no", "/a/b")
    assert disk.describe_failure(error, []) == ("/a/b cannot be read or written: Permission denied")
    assert disk.describe_failure(ValueError("Permission denied"), []) is None
    assert disk.describe_failure(OSError("no errno"), ["--run_dir=x"]) is None


def test_a_bucket_that_is_out_of_reach_is_named(monkeypatch, capsys):
    def unreachable(*_: object) -> None:
        raise OSError("Could not resolve host: storage.googleapis.com")

    monkeypatch.setattr("etils.epath.gpath._GPath.exists", unreachable)
    said = _refused(["predict", "--run_dir=gs://bucket/run", "hello"], capsys)
    assert said == (
        "distill: gs://bucket/run cannot be read or written: Could not resolve host: "
        "storage.googleapis.com; check the name, the network and your credentials, or use a local "
        "path"
    )


def test_a_path_in_a_bucket_stays_one():
    from distill.common.atomic import absolute

    assert str(absolute("gs://bucket/run")) == "gs://bucket/run"
    assert str(absolute("run")) == os.path.abspath("run")
