"""Predictions in parts: the same bytes from any number of processes, and after kill -9 anywhere."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys

import pytest

from distill import cli
from distill.commands import several_hosts
from distill.errors import UserError
from distill.inference import part_files, shards
from distill.inference.evaluator import Prediction

MADE_BY = {"parameters": "p"}
SIZES = {"part_rows": 10, "block_rows": 4}
ROWS = 57  # 20 + 34 + 3: parts of 10, 10 | 10, 10, 10, 4 | 3


def answer(rows):
    """Answers that depend on the block that they are given in, as a batch's last digits may."""
    text = " ".join(row.id for row in rows)
    return [Prediction(row.id, row.input, None, text, None, None) for row in rows]


def _files(folder):
    """Three files of rows, one with a byte order mark, blank lines and ids of its own."""
    numbers = iter(range(ROWS))
    texts = [[f'{{"input": "täxt {next(numbers)}"}}\n' for _ in range(n)] for n in (20, 34, 3)]
    texts[1][5:5] = ["\n", "  \n"]
    texts[2][1] = texts[2][1].replace("{", '{"id": "mine", ')
    for index, lines in enumerate(texts):
        bom = "\ufeff" if index == 1 else ""
        (folder / f"rows-{index}.jsonl").write_text(bom + "".join(lines).rstrip("\n"))
    return str(folder / "rows-*.jsonl")


def _write(folder, pattern, index=0, count=1, answer=answer, made_by=MADE_BY, sizes=SIZES):
    cut = shards.cut(shards.find_files([pattern]), sizes["part_rows"])
    return part_files.write_parts(folder, cut, answer, made_by, sizes, (index, count))


def _content(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.glob("part-*")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The pattern of the rows, and what one process writes."""
    folder = tmp_path_factory.mktemp("whole")
    pattern = _files(folder)
    written = _write(folder / "one", pattern)
    assert written == {
        "output_dir": str(folder / "one"),
        "rows": ROWS,
        "parts": 7,
        "complete": 7,
        "written": 7,
    }
    return pattern, _content(folder / "one")


def test_answers_are_in_the_order_of_the_rows(whole):
    records = [json.loads(line) for line in whole[1].splitlines()]
    assert [record["input"] for record in records] == [f"täxt {n}" for n in range(ROWS)]
    ids = [record["id"] for record in records]
    assert ids[0] == "rows-0/test/0" and ids[20 + 33] == "rows-1/test/33" and ids[-2] == "mine"
    assert records[4]["prediction"].split()[0] == ids[4]  # blocks of four rows


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_write_the_same_bytes(whole, tmp_path, count):
    pattern, content = whole
    asked = []

    def counting(rows):
        asked.extend(row.id for row in rows)
        return answer(rows)

    results = [_write(tmp_path / "a", pattern, i, count, counting) for i in reversed(range(count))]
    assert _content(tmp_path / "a") == content
    assert len(asked) == len(set(asked)) == ROWS  # no row twice
    assert sum(result["written"] for result in results) == 7
    assert results[-1]["complete"] == 7 > results[0]["complete"]
    merged = part_files.merge(tmp_path / "a", tmp_path / "all.jsonl")
    assert (tmp_path / "all.jsonl").read_bytes() == content
    assert (merged["rows"], merged["parts"], merged["same_ids"]) == (ROWS, 7, 0)


def test_another_number_of_processes_continues(whole, tmp_path):
    pattern, content = whole
    _write(tmp_path / "a", pattern, 1, 4)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("part-*")}
    assert len(before) == 2  # parts 1 and 5
    assert [_write(tmp_path / "a", pattern, i, 2)["written"] for i in range(2)] == [4, 1]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert _content(tmp_path / "a") == content


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_part_files as t
from distill.common import atomic
from distill.inference import part_files

folder, pattern = t.pathlib_of(sys.argv[2]), sys.argv[3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

def at_block(number):
    blocks = iter(range(100))
    def answer(rows):
        return die() if next(blocks) == number else t.answer(rows)
    return answer

def in_write(before):
    original = part_files.write_bytes
    def write_bytes(path, content):
        if "part-00002" in path.name:
            if before:
                with atomic.atomic_path(path) as scratch:
                    scratch.write_bytes(content[:100])
                    die()
            original(path, content)
            die()
        original(path, content)
    part_files.write_bytes = write_bytes
    return t.answer

points = {"in a part": lambda: at_block(4), "in a write": lambda: in_write(True),
          "after a write": lambda: in_write(False)}
for name, point in points.items():
    child = os.fork()
    if not child:
        t._write(folder / name, pattern, answer=point())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status), len([*(folder / name).glob("part-*")]))
"""


def pathlib_of(text):
    """For the script of the next test."""
    import pathlib

    return pathlib.Path(text)


def test_kill_at_three_points_loses_no_complete_part(whole, tmp_path):
    pattern, content = whole
    arguments = [os.path.dirname(__file__), str(tmp_path), pattern]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=120
    )
    killed = [line.split() for line in done.stdout.splitlines()]
    assert killed == [["9", "1"], ["9", "2"], ["9", "3"]], done.stderr
    for name, left in (("in a part", 6), ("in a write", 5), ("after a write", 4)):
        assert _write(tmp_path / name, pattern)["written"] == left
        assert _content(tmp_path / name) == content
        assert part_files.merge(tmp_path / name)["rows"] == ROWS


def test_merge_names_what_is_missing_twice_or_damaged(whole, tmp_path):
    pattern, _ = whole
    folder = tmp_path / "a"
    _write(folder, pattern, 0, 2)
    missing = r"3 of 7 parts are missing \(part-00001-of-00007.jsonl, .*the same command without "
    with pytest.raises(UserError, match=missing + "--num_processes and --process_id"):
        part_files.merge(folder)
    _write(folder, pattern, 1, 2)
    part = folder / "part-00003-of-00007.jsonl"
    content = part.read_bytes()
    lines = content.splitlines(keepends=True)
    for damage, message in (
        (b"".join(lines[:-1]), "has 9 lines, expected 10"),
        (content + lines[0], "has 11 lines, expected 10"),
        (content[:-5], r"part-00003-of-00007.jsonl:10: not a prediction record"),
        (b"".join([b"{}\n", *lines[1:]]), r"part-00003-of-00007.jsonl:1: not a prediction record"),
    ):
        part.write_bytes(damage)
        with pytest.raises(UserError, match=message):
            part_files.merge(folder, tmp_path / "all.jsonl")
        assert not (tmp_path / "all.jsonl").exists()
    part.unlink()
    assert _write(folder, pattern)["written"] == 1 and part.read_bytes() == content
    (tmp_path / "mine.jsonl").write_text("precious")
    with pytest.raises(UserError, match=r"`distill data merge` did not write it"):
        part_files.merge(folder, tmp_path / "mine.jsonl")


def test_a_damaged_manifest_is_told_in_words_of_the_command(whole, tmp_path):
    folder = tmp_path / "a"
    _write(folder, whole[0])
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"of predictions; copy the folder again, or delete it and"):
        part_files.merge(folder)
    with pytest.raises(UserError, match=r"of predictions; choose another --output_dir"):
        _write(folder, whole[0])


def test_other_rows_or_settings_are_refused(whole, tmp_path):
    pattern, _ = whole
    _write(tmp_path / "a", pattern)
    with pytest.raises(UserError, match="parameters: was 'p', now 'q'"):
        _write(tmp_path / "a", pattern, made_by={"parameters": "q"})
    with pytest.raises(UserError, match="block_rows: was 4, now 5"):
        _write(tmp_path / "a", pattern, sizes={"part_rows": 10, "block_rows": 5})
    with pytest.raises(UserError, match=r"written for other rows; choose another --output_dir"):
        _write(tmp_path / "a", pattern.replace("*", "[01]"))
    other = _files(tmp_path)
    (tmp_path / "rows-2.jsonl").write_text('{"input": "new"}')
    with pytest.raises(UserError, match=r"other rows: rows-2.jsonl \(sha256 [0-9a-f]{16}\) is new"):
        _write(tmp_path / "a", other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    with pytest.raises(UserError, match=r"has files but no manifest\.json"):
        _write(tmp_path / "mine", pattern)


def test_all_rows_are_checked_before_the_first_is_answered(tmp_path):
    pattern = _files(tmp_path)
    with (tmp_path / "rows-2.jsonl").open("a") as file:
        file.write('\n{"inptu": "b"}')

    def never(rows):
        raise AssertionError

    with pytest.raises(UserError, match=r"rows-2.jsonl:4: unknown field 'inptu'; closest: input"):
        _write(tmp_path / "a", pattern, answer=never)
    assert not (tmp_path / "a").exists()  # so the command may be corrected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["none-*.jsonl"], "--input=.*none-.* matches no file in"),
        (["*/rows.jsonl"], "only in the name of the file"),
        (["rows-0.jsonl", "rows-*.jsonl"], "names .*rows-0.jsonl twice"),
        (["rows.csv"], "reads uncompressed JSONL files .* only"),
        (["empty.jsonl"], "empty.jsonl has no rows"),
        (["missing.jsonl"], "missing.jsonl does not exist"),
    ],
)
def test_files_that_cannot_be_cut_are_refused(tmp_path, names, message):
    _files(tmp_path)
    (tmp_path / "rows.csv").write_text("input\na\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=message):
        shards.cut(shards.find_files([str(tmp_path / name) for name in names]), 10)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--process_id=0"], "--process_id works only with --output_dir"),
        (["--output_dir=a", "--process_id=0"], "must be given together"),
        (["--output_dir=a", "--process_id=2", "--num_processes=2"], "from 0 to 1"),
        (["--output_dir=a", "--output=b"], "got both --output and --output_dir"),
        (["--output_dir=a", "--format=csv"], "and only that"),
        (["--input=y.jsonl"], "got 2 --input, expected one without --output_dir"),
        (["--output_dir=a", "--distributed"], "found neither a TPU slice nor Slurm"),
        (["--output_dir=a", "--distributed", "--process_id=1"], "expected only one of them"),
        (["--model_parallel=0"], "got --model_parallel=0, expected at least 1"),
        (["--coordinator_port=80"], "--coordinator_port works only with --output_dir"),
        (["--output_dir=a", "--part_rows=0"], "got --part_rows 0, expected 1 to"),
    ],
)
def test_flags_that_do_not_fit(capsys, flags, message):
    assert cli.main(["predict", "--run_dir=nowhere", "--input=x.jsonl", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "found"),
    [("absent", "does not exist"), ("rows.csv", "is a file"), ("other", "has no manifest.json")],
)
def test_merge_says_what_it_got_instead_of_parts(tmp_path, name, found):
    (tmp_path / "rows.csv").write_text("input\n")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=f"{name} {found}; expected a folder that"):
        part_files.merge(tmp_path / name)


def test_numbers_come_from_slurm(monkeypatch):
    for name, value in (("NTASKS", "4"), ("PROCID", "2"), ("JOB_ID", "7"), ("STEP_NODELIST", "a")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    flags = _flags(distributed=True)
    assert several_hosts.share_of(flags) == (2, 4) and not several_hosts.is_joined(flags)


def _flags(**changes):
    given = {"distributed": False, "num_processes": None, "process_id": None}
    return argparse.Namespace(**{**given, "coordinator_address": None, **changes})


def test_hosts_of_a_slice_are_connected(monkeypatch):
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    for hosts, is_joined in (("a,b", True), ("a", False)):
        monkeypatch.setenv("TPU_WORKER_HOSTNAMES", hosts)
        assert several_hosts.is_joined(_flags(distributed=True)) == is_joined
        assert not several_hosts.is_joined(_flags(num_processes=2, process_id=1))
    assert several_hosts.share_of(_flags(distributed=True)) == (0, 1)
    assert several_hosts.is_joined(_flags(coordinator_address="a:1", num_processes=2, process_id=1))


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--output_dir=a"],
        ["predict", "--output_dir=a", "--num_processes=2", "--process_id=0"],
        ["predict"],
        ["evaluate"],
    ],
)
def test_one_host_of_a_slice_is_not_started_alone(monkeypatch, capsys, command):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    assert cli.main([*command, "--run_dir=nowhere", "--input=x.jsonl"]) == 2
    assert "host 1 of the 2 hosts of a TPU slice" in capsys.readouterr().err


@pytest.mark.slow
def test_kill_of_the_command_at_three_moments(run_dir, tmp_path):
    rows = [json.dumps({"input": f"my fan seems burnt . ticket {n}"}) for n in range(6000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    command = [sys.executable, "-m", "distill.cli", "predict", f"--run_dir={run_dir}"]
    command += [f"--input={tmp_path / 'rows.jsonl'}", "--part_rows=500", "--block_rows=250"]

    def start(folder):
        return subprocess.Popen([*command, f"--output_dir={tmp_path / folder}"])

    assert start("whole").wait(300) == 0
    for after in (1, 4, 9):
        process, folder = start(f"killed-{after}"), tmp_path / f"killed-{after}"
        while len([*folder.glob("part-*")]) < after and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kept = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
        assert after <= len(kept) < 12
        assert start(folder.name).wait(300) == 0
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
        assert _content(folder) == _content(tmp_path / "whole")
