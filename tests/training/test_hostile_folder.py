"""A run folder that someone else made runs no code, and writes to no place but its own."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import shutil

import pytest

from distill import cli
from distill.engines import native
from distill.errors import UserError

TEXT = "my fan seems burnt ."
GIN = """\
from __gin__ import dynamic_registration
import subprocess
SEED = @subprocess.call()
subprocess.call.args = ['touch', '{mark}']
"""
LINES = (
    "import subprocess",
    "from __gin__ import dynamic_registration",
    "include 'gin/engines/native.gin'",
    "SEED = @subprocess.call()",
    "SEED = %OTHER",
    "subprocess.call.args = ['touch', '{mark}']",
    "SEED = __import__('os').system('touch {mark}')",
    "SEED = (lambda: 1)()",
    "SEED = [open('{mark}', 'w') for _ in 'a']",
    "SEED = " + "(" * 5000 + ")" * 5000,
    "SEED = 1\nSEED = 2",
)


class _Bomb:
    """Unpickling it writes the file."""

    def __init__(self, mark: pathlib.Path) -> None:
        self._mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self._mark,)


@pytest.fixture
def folder(run_dir, tmp_path) -> pathlib.Path:
    """A copy of the run, to be damaged."""
    shutil.copytree(run_dir, tmp_path / "run")
    return tmp_path / "run"


def _commands(folder: pathlib.Path) -> list[list[str]]:
    run, out = f"--run_dir={folder}", folder.parent / "out"
    return [
        ["predict", run, TEXT],
        ["evaluate", run],
        ["evaluate", run, f"--input={folder / 'rows.jsonl'}"],
        ["convert", "--from=native", "--to=t5x", run, f"--output={out}"],
    ]


def _run_all(folder: pathlib.Path, capsys, wanted: tuple[int, ...] = (2,)) -> list[str]:
    """Runs each command; gives what they said, and checks how they ended."""
    (folder / "rows.jsonl").write_text(json.dumps({"input": TEXT, "label": "repair"}) + "\n")
    said = []
    for argv in _commands(folder):
        shutil.rmtree(folder.parent / "out", ignore_errors=True)
        capsys.readouterr()
        assert cli.main(argv) in wanted, argv
        said.append(capsys.readouterr().err)
    return said


def test_gin_code_in_a_configuration_is_not_run(folder, tmp_path, capsys):
    mark = tmp_path / "mark"
    text = (folder / "config.gin").read_text()
    (folder / "config.gin").write_text(GIN.format(mark=mark) + text.replace("SEED =", "# SEED ="))
    for message in _run_all(folder, capsys):
        assert "config.gin:1: got 'from __gin__ import dynamic_registration', expected NAME" in (
            message
        )
    assert not mark.exists()


@pytest.mark.parametrize("line", LINES, ids=[line[:30] for line in LINES])
def test_a_line_that_is_not_a_literal_is_refused(line, folder, tmp_path, capsys):
    mark = tmp_path / "mark"
    text = (folder / "config.gin").read_text().replace("\nSEED = ", "\n# SEED = ")
    (folder / "config.gin").write_text(text + line.format(mark=mark) + "\n")
    assert all("config.gin:" in message for message in _run_all(folder, capsys))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.gin", b"\xff\xfe"),
        ("config.gin", b""),
        ("config.gin", b"SEED = 1\n" * 200_000),
        ("student.json", b'{"format": 1}'),
        ("student.json", b"[" * 100_000),
        (
            "student.json",
            b'{"format": 1, "vocabulary": {"kind": "../../etc/passwd"}, "labels": [], '
            b'"answer_rule": "exact_match", "eos_mark": ""}',
        ),
        (
            "student.json",
            b'{"format": 1, "vocabulary": {"kind": ["words"]}, "labels": [], "answer_rule": "x"}',
        ),
        ("vocabulary/words.txt", b"other words"),
    ],
)
def test_damaged_files_are_named(name, content, folder, capsys):
    (folder / name).write_bytes(content)
    commands = {"convert"} if name == "config.gin" else set()
    said = _run_all(folder, capsys, wanted=(2,) if commands else (0, 2))
    assert all(name in message for message in said[:3])


@pytest.mark.parametrize(
    ("name", "message"),
    [("config.gin", "it sets no macro"), ("student.json", "it is not JSON")],
)
def test_an_empty_file_is_called_damaged(name, message, folder, capsys):
    (folder / name).write_bytes(b"")
    assert cli.main(["predict", f"--run_dir={folder}", "hello"]) == 2
    told = capsys.readouterr().err
    assert f"{name} is damaged: {message}; copy the run folder again" in told


def test_a_rule_is_a_name_and_is_never_imported(folder, tmp_path, capsys):
    path = folder / "student.json"
    path.write_text(path.read_text().replace('"exact_match"', '"os.system"'))
    said = _run_all(folder, capsys, wanted=(0, 2))
    assert "are compared by os.system, which is not registered" in said[2]


def test_a_hostile_run_json_is_refused(folder, capsys):
    (folder / "run.json").write_text('{"files": {"/etc/passwd": 3}}')
    said = _run_all(folder, capsys, wanted=(0, 2))
    assert "run.json is damaged: it does not record what the run was trained on" in said[1]


def test_a_vocabulary_that_is_no_model_is_refused(folder, tmp_path, capsys):
    """The digest fits, the content does not."""
    import hashlib

    bomb = pickle.dumps(_Bomb(tmp_path / "mark"))
    (folder / "vocabulary" / "sentencepiece.model").write_bytes(bomb)
    path = folder / "student.json"
    described = json.loads(path.read_text())
    digest = hashlib.sha256(bomb).hexdigest()
    described["vocabulary"] = {"kind": "sentencepiece", "sha256": digest}
    path.write_text(json.dumps(described))
    said = _run_all(folder, capsys, wanted=(0, 2))
    assert "is not a SentencePiece model" in said[0]
    assert not (tmp_path / "mark").exists()


def test_types_that_a_checkpoint_names_are_not_loaded(folder, tmp_path, capsys):
    """Orbax writes names of handlers and types into its metadata; they stay names."""
    mark = tmp_path / "mark"
    (tmp_path / "hostile_types.py").write_text(f"open({str(mark)!r}, 'w')\n")
    metadata = [*folder.glob("checkpoints/*/_CHECKPOINT_METADATA")]
    metadata += folder.glob("checkpoints/*/default/_METADATA")
    assert len(metadata) == 2
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        for path in metadata:
            text = path.read_text()
            text = text.replace("orbax.checkpoint._src.handlers.standard_checkpoint_handler.", "X.")
            text = text.replace("X.StandardCheckpointHandler", "hostile_types.Handler")
            path.write_text(text.replace('"jax.Array"', '"hostile_types.Array"'))
            assert "hostile_types" in path.read_text()
        for name in ("checkpoint", "aggregate", "default/checkpoint"):
            bomb = pickle.dumps(_Bomb(mark))
            (metadata[0].parent / name).write_bytes(bomb)
        _run_all(folder, capsys, wanted=(0, 2))
    finally:
        sys.path.remove(str(tmp_path))
    assert not mark.exists() and "hostile_types" not in sys.modules


@pytest.mark.parametrize(
    "name", ["run.json", "results.json", "metrics.jsonl", "config.gin", "checkpoints", "notes"]
)
def test_a_link_in_a_run_folder_is_not_followed_when_writing(name, resolved, folder, tmp_path):
    (folder / "results.json").unlink()
    victim = tmp_path / "victim"
    path = folder / name
    if path.is_dir():
        shutil.move(path, victim)
    else:
        victim.write_text(path.read_text() if path.exists() else "mine")
        path.unlink(missing_ok=True)
    path.symlink_to(victim)
    before = victim.stat().st_mtime_ns
    with pytest.raises(UserError, match=rf"run/{name} is a symbolic link to .*victim"):
        native.train(resolved, folder, lambda line: None)
    assert victim.stat().st_mtime_ns == before


def test_the_run_folder_itself_may_be_a_link(resolved, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert native.train(resolved, tmp_path / "link", lambda line: None)["n_test"] == 24


def test_a_hard_link_is_not_written_through(resolved, folder, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (folder / "lock").unlink(missing_ok=True)
    (folder / "results.json").unlink()
    (folder / "lock").hardlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=r"run/lock is a hard link"):
        native.train(resolved, folder, lambda line: None)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize(
    "name", ["config.gin", "vocabulary/words.txt", "run.json", "metrics.jsonl"]
)
def test_a_pipe_stops_no_reader(name, folder, capsys):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert all(f"{name} is a pipe or a device" in said for said in _run_all(folder, capsys))


@pytest.mark.parametrize("name", ["config.gin", "student.json", "run.json"])
def test_a_folder_in_the_place_of_a_file_is_named(name, folder, capsys):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert all(f"{name} is a folder, expected a file" in said for said in _run_all(folder, capsys))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.gin", r"config\.gin does not exist, but"),
        ("run.json", r"run\.json does not exist, but"),
    ],
)
def test_a_lost_record_ends_the_comparison_of_nothing(name, message, resolved, folder):
    """Without it a run would resume with other settings, or on other data."""
    (folder / "results.json").unlink()
    (folder / name).unlink()
    with pytest.raises(UserError, match=message):
        native.train(resolved, folder, lambda line: None)


@pytest.mark.parametrize("made", ["empty", "copied"])
def test_a_foreign_step_takes_no_good_checkpoint_away(made, resolved, folder):
    (folder / "results.json").unlink()
    (newest,) = (folder / "checkpoints").glob("12")
    if made == "empty":
        (folder / "checkpoints" / "99").mkdir()
    else:
        shutil.copytree(newest, folder / "checkpoints" / "99")
    lines: list[str] = []
    assert native.train(resolved, folder, lines.append)["checkpoint_step"] == 12
    assert newest.is_dir() and (folder / "damaged_checkpoints" / "99").is_dir()
    assert any(line.startswith("checkpoint 99 is damaged") for line in lines)


def test_an_unreachable_step_is_named(resolved, folder, capsys):
    (folder / "results.json").unlink()
    (folder / "checkpoints" / ("9" * 200)).mkdir()
    with pytest.raises(UserError, match="is not a valid checkpoint step"):
        native.train(resolved, folder, lambda line: None)
    assert (folder / "checkpoints" / "12").is_dir()


@pytest.mark.parametrize("name", ["/dev/zero", "../../../../etc/passwd"])
def test_digests_name_files_of_the_checkpoint_alone(name, folder, capsys):
    content = {"step": 12, "files": {name: {"bytes": 0, "sha256": "a"}}}
    (folder / "checkpoints" / "12" / "digests.json").write_text(json.dumps(content))
    said = _run_all(folder, capsys)
    assert all("is outside the folder" in message for message in said)


@pytest.mark.parametrize("change", ['"rows": 3', '"rows": {"train": "x"}', '"rows": {"other": 1}'])
def test_a_run_json_of_another_form_is_refused(change, folder, capsys):
    path = folder / "run.json"
    run = json.loads(path.read_text()) | json.loads("{" + change + "}")
    path.write_text(json.dumps(run))
    said = _run_all(folder, capsys, wanted=(0, 2))
    assert "run.json is damaged: it does not record what the run was trained on" in said[1]


@pytest.mark.parametrize(
    "change",
    ["SEED = 0x" + "f" * 9000, "DIRECTION_INIT = " + "9" * 400, r"LABEL_PREFIX = '\ud800'"],
)
def test_values_that_no_setting_has_are_refused(change, folder, capsys):
    name = change.split(" = ")[0]
    lines = (folder / "config.gin").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{name} = ")]
    (folder / "config.gin").write_text("\n".join([*kept, change]) + "\n")
    assert all(f"got {name} = " in said for said in _run_all(folder, capsys))
