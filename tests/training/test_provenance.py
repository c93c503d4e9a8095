"""What a run folder says about how it was made."""

import hashlib
import json
import subprocess

from distill.config import resolve
from distill.data import cache as caches
from distill.engines import native
from distill.training import provenance


def test_a_run_folder_says_what_it_was_made_of(micro, tmp_path):
    resolved = resolve.resolve(["tickets_step_by_step"], (*micro, "EVAL_PERIOD=0"))
    results = native.train(resolved, tmp_path, lambda line: None)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["versions"]["jax"].count(".") == 2
    assert run["rows"] == {"train": 54, "validation": 6, "test": 24}
    assert run["steps_per_epoch"] == 54 / 8 and run["epochs"] == 12 / (54 / 8)
    assert set(run["tasks"]) == {"label", "rationale"}
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert f"{results['accuracy']:.3f}" in card and f"{results['parameters']:,}" in card
    assert "54 rows (LABEL_SOURCE = 'gold'); 6 more" in card and "checkpoint of step 12" in card


def test_the_data_digest_follows_the_files(micro, tmp_path):
    def describe(text: str) -> dict[str, object]:
        row = {"input": text, "label": "a", "rationale": "because"}
        for name in ("train", "test"):
            (tmp_path / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 10)
        options = (f"TRAIN_FILE='{tmp_path}/train.jsonl'", f"TEST_FILE='{tmp_path}/test.jsonl'")
        files = ["tickets_step_by_step", "gin/data/jsonl.gin"]
        micro_here = [o for o in micro if o.split("=")[0] not in ("NUM_ROWS", "NUM_TEST")]
        overrides = (*micro_here, *options, "LABELS=('a',)", "NUM_LABELS=0")
        resolved = resolve.resolve(files, overrides)
        return provenance.describe_run(resolved, caches.load_cache(resolved.run.data), 1.0)

    first, again, other = describe("x y"), describe("x y"), describe("x z")
    assert list(first["files"]) == [f"{tmp_path}/{name}.jsonl" for name in ("train", "test")]
    expected = hashlib.sha256((tmp_path / "test.jsonl").read_bytes()).hexdigest()
    assert other["files"][f"{tmp_path}/test.jsonl"] == expected
    assert first["data_digest"] == again["data_digest"] != other["data_digest"]


def test_the_commit_of_a_checkout_is_named(tmp_path, monkeypatch):
    package = tmp_path / "distill"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance.distill, "__file__", str(package / "__init__.py"))
    assert provenance.git_commit() is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert provenance.git_commit() == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed = True\n")
    assert provenance.git_commit() == git("rev-parse", "HEAD") + "+changes"
