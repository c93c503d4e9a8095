"""Evaluation on several hosts: the answers, the counts and so the scores are those of one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from distill.data.counts.sequence_counts import SequenceCounts
from distill.inference import host_blocks
from distill.inference.evaluator import Prediction
from distill.training import hosts

ROWS = 23


class _Evaluator:
    """Answers that depend on the block that they are given in; counts what it reads."""

    def __init__(self):
        self.input_counts, self.missing_choices = SequenceCounts(), 0

    def answer(self, block):
        numbers = range(block.start, block.stop)
        for number in numbers:
            self.input_counts.add([7] * number, limit=9, unk_id=7 if number % 2 else 0)
            self.missing_choices += number % 3 == 0
        return [
            Prediction(
                f"r{n}", "täxt", "a", f"{numbers}", n % 2 == 0, None, 0.1 * n, extra={"n": n}
            )
            for n in numbers
        ]


class _Gathered(Exception):
    pass


def _answer(monkeypatch, count):
    """What each of `count` processes gets, which run one after the other."""
    sent: list[bytes] = []

    def collect(content):
        sent.append(content)
        raise _Gathered

    def run(index, gather):
        monkeypatch.setattr(hosts, "index_and_count", lambda: (index, count))
        monkeypatch.setattr(hosts, "gather_bytes", gather)
        evaluator = _Evaluator()
        found = host_blocks.answer_on_hosts(evaluator, ROWS, evaluator.answer, block_rows=4)
        return found, evaluator.input_counts, evaluator.missing_choices

    for index in range(count if count > 1 else 0):
        with pytest.raises(_Gathered):
            run(index, collect)
    return [run(index, lambda content: sent) for index in range(count)]


@pytest.mark.parametrize("count", [2, 4, 9])  # 9: more hosts than blocks
def test_all_hosts_have_what_one_host_has(monkeypatch, count):
    (one,) = _answer(monkeypatch, 1)
    assert [each.id for each in one[0]] == [f"r{n}" for n in range(ROWS)]
    assert one[1].cut == 13 and one[1].unknown == sum(range(1, ROWS, 2))
    assert _answer(monkeypatch, count) == [one] * count


def _free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _start(count, *command, devices=1):
    """Starts a command on joined processes."""
    place = [f"--coordinator_address=127.0.0.1:{_free_port()}", f"--num_processes={count}"]
    place = place if count > 1 else []
    flags = f"--xla_force_host_platform_device_count={devices}"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "distill.cli", *command, *place, *ids],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
            text=True,
        )
        for ids in ([f"--process_id={i}"] * (count > 1) for i in range(count))
    ]


def _on_processes(count, *command, devices=1):
    """Runs a command on joined processes; gives what each printed."""
    started = _start(count, *command, devices=devices)
    try:
        said = [process.communicate(timeout=900) for process in started]
    finally:
        for process in started:  # one that waits for the other would outlive the test
            process.kill()
    assert not any(process.returncode for process in started), [err for _, err in said]
    return said


@pytest.mark.slow
def test_scores_of_joined_processes_are_those_of_one(run_dir, tmp_path):
    """10,000 rows are three blocks; the run's own test rows are one."""
    rows = [json.loads(line) for line in (run_dir / "predictions_test.jsonl").open()]
    with (tmp_path / "rows.jsonl").open("w") as file:
        for number in range(10_000):
            row = rows[number % len(rows)]
            fields = {"input": f"{row['input']} {number % 7}", "label": row["gold"]}
            file.write(json.dumps(fields) + "\n")
    for source in ([f"--input={tmp_path / 'rows.jsonl'}"], ["--split=test"]):
        command = ["evaluate", f"--run_dir={run_dir}", "--json", *source]
        ((one, err),) = _on_processes(1, *command)
        for count in (2, 4):
            output = tmp_path / f"{count}{source[0][2:5]}.json"
            said = _on_processes(count, *command, f"--output={output}")
            assert [json.loads(out) for out, _ in said] == [json.loads(one)] * count
            assert json.loads(output.read_text()) == json.loads(one)
            lines = {line for line in err.splitlines() if "10,000 rows" in line and "cut" in line}
            assert lines <= {*said[0][1].splitlines()} and not lines & {*said[1][1].splitlines()}
            assert bool(lines) == ("--input" in source[0])


def _corpus(tmp_path, rows):
    lines = [json.dumps({"input": f"my fan seems burnt . {n} {'so ' * (n % 9)}"}) for n in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return f"--input={tmp_path / 'rows.jsonl'}"


def _joined(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.glob("part-*")))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--model_parallel=2"]])
def test_all_devices_of_a_process_answer_as_one_does(run_dir, tmp_path, flags):
    corpus = _corpus(tmp_path, range(200))
    for devices in (1, 4):
        command = ["predict", f"--run_dir={run_dir}", corpus, "--block_rows=64"]
        command += [f"--output={tmp_path / str(devices)}", *(flags if devices == 4 else ())]
        _on_processes(1, *command, devices=devices)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "4").read_bytes()


@pytest.mark.slow
def test_students_lie_on_all_devices_unless_texts_are_answered(run_dir):
    program = (
        "import jax\n"
        "from distill.inference.load import load_run\n"
        "from distill.training.mesh import data_parallel\n"
        "for split in (None, 1, 2):\n"
        f"    params = load_run({str(run_dir)!r}, model_parallel=split).params\n"
        "    leaf = max(jax.tree.leaves(params), key=lambda leaf: leaf.size)\n"
        "    part = leaf.addressable_shards[0].data.size\n"
        "    print(len(leaf.devices()), leaf.size // part, data_parallel(params))\n"
    )
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    printed = subprocess.check_output(
        [sys.executable, "-c", program], env={**os.environ, **flags}, text=True
    )
    assert printed.splitlines() == ["1 1 1", "4 1 4", "4 2 2"]


@pytest.mark.slow
def test_joined_processes_resume_after_a_kill_on_any_number_of_them(run_dir, tmp_path):
    """As on a TPU slice, whose hosts start their devices together."""
    corpus = _corpus(tmp_path, range(20_000))
    command = ["predict", f"--run_dir={run_dir}", corpus, "--block_rows=64"]
    _on_processes(1, *command, f"--output={tmp_path / 'one.jsonl'}")
    command += ["--part_rows=256"]
    folder = tmp_path / "parts"
    first, second = _start(2, *command, f"--output_dir={folder}", devices=2)
    while len([*folder.glob("part-*")]) < 4:
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.02)
    second.kill()
    second.communicate()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 75 and "process 1" in err and "on all hosts to resume" in err
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert 4 <= len(kept) < 79
    for count in (1, 4):
        resumed = tmp_path / f"resumed-{count}"
        shutil.copytree(folder, resumed)  # keeps the times
        said = _on_processes(count, *command, f"--output_dir={resumed}", devices=2)
        assert all("79 of 79 parts" in out for out, _ in said)
        wrote = [int(re.search(r"this process wrote (\d+)", out)[1]) for out, _ in said]
        assert sum(wrote) == 79 - len(kept)
        assert {name: (resumed / name).stat().st_mtime_ns for name in kept} == kept
        assert _joined(resumed) == (tmp_path / "one.jsonl").read_bytes()
