"""Checks of many rows: memory of constant size, and the report that comparing all rows gives."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import subprocess
import sys
import tracemalloc
from collections import Counter, defaultdict

import pytest

from distill import cli
from distill.common import pair_tables
from distill.common.hashing import digest64
from distill.data import tables
from distill.data.check import findings
from distill.data.check.report import Settings, check_rows
from distill.data.examples import Example
from distill.errors import UserError

LABELS = ("billing", "shipping")


def _random_rows(generator, split, count):
    kinds = generator.choice([1, 3, 40, 1000])
    return [
        Example(
            id=f"{split}{number}",
            input=generator.choice(["Message  ", "message "]) + str(generator.randrange(kinds)),
            label=generator.choice([None, "a", "b", "c", "d", "e"]),
            rationale=f"because of {generator.randrange(kinds)}",
        )
        for number in range(count)
    ]


def _expected(train, test):
    """Count and rows of each finding about repeated texts, by comparing texts in memory."""

    def text(row):
        return " ".join(row.input.casefold().split())

    def place(text):  # the order in which findings name rows
        digest = digest64(text)
        return digest & 15, digest

    def ids(rows, texts):
        return [row.id for row in rows if text(row) in texts][:6]

    inputs, tests = Counter(map(text, train)), Counter(map(text, test))
    labels = defaultdict(set)
    for row in train:
        labels[text(row)] |= {row.label} - {None}
    repeated = sorted((each for each in inputs if inputs[each] > 1), key=place)
    mixed = sorted((each for each in inputs if len(labels[each]) > 1), key=place)
    crossing = [text(row) for row in test if text(row) in inputs]
    crossing_first = sorted(crossing, key=lambda each: place(each)[0])[:3]
    again = [row for row in test if tests[text(row)] > 1]
    rationales = Counter(row.rationale for row in train)
    same = sum(count for count in rationales.values() if count > 1)
    count_mixed = sum(row.label is not None and text(row) in mixed for row in train)
    both = [*train, *test]
    return {
        "repeated_inputs": (sum(inputs[each] for each in repeated), ids(both, repeated[:3])),
        "contradicting_labels": (count_mixed, ids(both, mixed[:3])),
        "test_in_training": (len(crossing), ids(test, crossing_first)),
        "repeated_test_inputs": (len(again), []),
        "repeated_rationales": (same, [], len(rationales)),
    }


@pytest.mark.parametrize("at_once", [7, 1000])
def test_the_report_is_that_of_comparing_all_texts(at_once, monkeypatch):
    monkeypatch.setattr(pair_tables, "_AT_ONCE", at_once)
    for seed in range(20):
        generator = random.Random(seed)
        train = _random_rows(generator, "r", generator.choice([1, 50, 300]))
        test = _random_rows(generator, "t", generator.choice([1, 50]))
        splits = {"train": lambda rows=train: rows, "test": lambda rows=test: rows}
        found = {f["check"]: f for f in check_rows("rows", splits, Settings())["findings"]}
        for check, (count, rows, *different) in _expected(train, test).items():
            finding = found.get(check, {"count": 0, "rows": [], "text": ""})
            assert (finding["count"], finding["rows"]) == (count, rows), (seed, check)
            if count and different:
                assert f"{different[0]:,} of all are different" in finding["text"]


def test_a_repeated_id_is_named_as_by_reading_all_rows(tmp_path):
    path, outcomes = tmp_path / "rows.jsonl", set()
    for seed in range(30):
        generator = random.Random(seed)
        kinds = generator.choice([40, 100_000])
        ids = [generator.randrange(kinds) for _ in range(60)]
        path.write_text("".join(json.dumps({"id": f"i{n}", "input": "x"}) + "\n" for n in ids))
        messages = []
        for read in (tables.read_table, tables.stream_table):
            try:
                messages.append(str(len(list(read(path, "train")))))
            except UserError as error:
                messages.append(str(error))
        assert messages[0] == messages[1]
        outcomes.add("duplicate" in messages[0] or messages[0])
    assert outcomes == {True, "60"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "MOST_DISTINCT", 50)

    def peak(count):
        path = tmp_path / "rows.jsonl"
        with path.open("w") as file:
            for n in range(count):
                row = {"input": f"message {n}", "label": LABELS[n % 2], "rationale": f"as of {n}"}
                file.write(json.dumps(row) + "\n")
        splits = {"train": lambda: tables.stream_table(path, "train")}
        splits["test"] = splits["train"]  # each input is in both
        tracemalloc.start()
        check_rows("rows", splits, Settings(labels=LABELS))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(100)  # what is loaded at the first use
    few, many = peak(3000), peak(15_000)
    assert many - few < 12_000 * 8  # less than one digest a row


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has the peak of the memory")
def test_sqlite_keeps_two_megabytes_in_memory_and_its_file_has_no_name(tmp_path):
    code = """
import os, re
from distill.common.pair_tables import PairTables

def fill(table, count):
    for number in range(count):
        table.add("pairs", number * 7919 % 2**63, number)

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

table = PairTables("pairs")
fill(table, 100_000)
assert table.repeated("pairs") == 0
before = peak()
fill(table, 400_000)
assert table.repeated("pairs") == 200_000
assert peak() - before < 6_000, peak() - before
print(os.listdir(os.environ["TMPDIR"]), end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[]", "")


def test_a_full_disk_is_one_message(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"input": f"{n}", "label": "a"}) + "\n" for n in range(100_000))
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert cli.main(["data", "check", f"--input={path}"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("distill: ")]
    assert len(lines) == 1 and re.search(
        r"no temporary file can be written: .*; .* set TMPDIR to", lines[0]
    )
