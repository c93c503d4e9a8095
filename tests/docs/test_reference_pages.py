"""docs/reference/files.md names every file and key that a run writes; the glossary is in order."""

import json
import re

import pytest
from shell_blocks import ROOT

from distill.config import fields
from distill.data import cache
from distill.teacher.endpoint.client import Answer
from distill.teacher.samples import PendingRow, answer_records

FILES = (ROOT / "docs/reference/files.md").read_text()
GLOSSARY = (ROOT / "docs/glossary.md").read_text()


def _section(title: str) -> str:
    assert f"## {title}\n" in FILES, title
    return re.split(r"\n##+ ", FILES.partition(f"## {title}\n")[2])[0]


def _named(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_every_file_of_a_run_folder_has_a_row(run_dir):
    named = _named(_section("Run folder"))
    for path in run_dir.iterdir():
        if path.name == "lines.txt":  # the fixture's own
            continue
        name = re.sub(r"tfevents\..*", "tfevents.*", path.name)
        name = {"checkpoints": "checkpoints/<step>/", "vocabulary": "vocabulary/"}.get(name, name)
        assert name in named, path.name


@pytest.mark.parametrize("name", ["student.json", "run.json", "results.json", "metrics.jsonl"])
def test_every_key_of_a_run_folders_files_has_a_row(run_dir, name):
    named = _named(_section(name)) | {"loss_label", "loss_rationale"}
    text = (run_dir / name).read_text()
    for line in text.splitlines() if name.endswith(".jsonl") else [text]:
        content = json.loads(line)
        assert content.keys() <= named, content.keys() - named
        for key in ("data", "counts", "vocabulary"):
            assert content.get(key, {}).keys() <= named, key
        for statistics in content.get("tasks", {}).values():
            known = _named(FILES)
            assert statistics.keys() | statistics["inputs"].keys() <= known


def test_every_key_of_predictions_and_of_the_cache_has_a_row(run_dir, resolved):
    named = _named(_section("Predictions"))
    for line in (run_dir / "predictions_test.jsonl").read_text().splitlines():
        assert json.loads(line).keys() <= named
    assert cache.load_cache(resolved.run.data).meta.keys() <= _named(_section("Data cache"))


def test_every_key_of_a_record_of_the_store_has_a_row():
    from distill.tickets import generator

    (row,) = generator.generate("natural", 1, 0, "train")
    answer = Answer(("text",), ("stop",), None, "model", 0.5)
    ((_, record),) = answer_records(PendingRow(row, "digest", (0,)), (0,), answer, (3, 4))
    named = _named(_section("Annotate store"))
    assert record.keys() | record["usage"].keys() <= named


def test_the_glossary_is_in_order_and_names_macros_that_exist():
    terms = re.findall(r"^\*\*([^*]+)\.\*\*", GLOSSARY, re.MULTILINE)
    assert terms == sorted(terms, key=str.casefold) and len(set(terms)) == len(terms) > 30
    for name in re.findall(r"\b[A-Z]+_[A-Z_]+\b", GLOSSARY):
        assert name in fields.defaults(), name


def test_shape_letters_that_the_code_uses_are_in_the_glossary():
    listed = set(re.findall(r"^\| ([A-Z]) \|", GLOSSARY, re.MULTILINE))
    used = set()
    for path in (ROOT / "distill").rglob("*.py"):
        for axes in re.findall(r"\b[a-z][a-z_]*_((?:[A-Z0-9]x)+[A-Z0-9])\b", path.read_text()):
            used |= set(axes.split("x")) - set("0123456789")
    assert used and used <= listed, used - listed
