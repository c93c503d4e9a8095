"""`distill data fetch` against a server of its own: whole files only, or one clear message."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import pathlib
import re
import socket
import threading
import zipfile

import pytest

from distill import cli
from distill.data.download import addresses


def zipped(**members: str) -> bytes:
    """A zip of invented rows in the released layout."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(
                zipfile.ZipInfo(name), text
            )  # not the time: names of tests hold the digest
    return content.getvalue()


ZIP = zipped(
    **{
        "datasets/svamp/svamp_test.json": '{"input": "1 + 1?", "label": "( 1.0 + 1.0 )"}\n',
        "datasets/svamp/llm/test_CoT_0.json": '["One and one. The answer is (1 + 1)."]',
        "__MACOSX/datasets/._svamp": "x",
        "datasets/.DS_Store": "x",
    }
)
DIGEST = hashlib.sha256(ZIP).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/good, /short (cut off), /endless (no length), and 404 for everything else."""

    asked: tuple[str, ...] = ()

    def do_GET(self) -> None:
        type(self).asked += (self.path,)
        kind, _, name = self.path.removeprefix("/").partition("/")
        if kind not in ("good", "short", "endless") or name != "datasets.zip":
            self.send_error(404)
            return
        self.send_response(200)
        if kind != "endless":
            self.send_header("Content-Length", str(len(ZIP)))
        self.end_headers()
        self.wfile.write(ZIP[:-20] if kind != "good" else ZIP)

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def fetch(output: pathlib.Path, source: str, *more: str, digest: str = DIGEST) -> int:
    argv = ["data", "fetch", f"--output={output}", f"--source={source}", "--json"]
    check = [f"--sha256=datasets.zip={digest}"] if digest else []
    return cli.main([*argv, "--only=datasets.zip", *check, *more])


def test_a_whole_file_is_checked_recorded_and_unpacked(server, tmp_path, capsys):
    assert fetch(tmp_path / "out", f"{server}/good") == 0
    said, notice = capsys.readouterr()
    result = json.loads(said)
    assert "CC BY-NC 4.0" in notice and "Cite: Hsieh et al. 2023" in notice
    assert result["raw_dir"] == str(tmp_path / "out" / "datasets")
    record = {
        "url": f"{server}/good/datasets.zip",
        "bytes": len(ZIP),
        "sha256": DIGEST,
        "checked": "sha256 given with --sha256",
    }
    assert result["files"] == [{"file": "datasets.zip", **record, "was_there": False}]
    recorded = json.loads((tmp_path / "out" / "fetched.json").read_text())
    assert recorded == {"files": {"datasets.zip": record}}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "NOTICE.txt",
        "datasets",
        "datasets.zip",
        "fetched.json",
    ]
    assert cli.main(["data", "summary", f"--raw_dir={result['raw_dir']}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["svamp/test"]["teacher_accuracy_all"] == 1
    names = {p.name for p in (tmp_path / "out" / "datasets").rglob("*") if p.is_file()}
    assert names == {"svamp_test.json", "test_CoT_0.json", ".unpacked"}


def test_what_is_there_is_not_fetched_again(server, tmp_path, capsys):
    assert fetch(tmp_path, f"{server}/good") == 0
    asked = len(Handler.asked)
    capsys.readouterr()
    assert fetch(tmp_path, f"{server}/good") == 0
    again = json.loads(capsys.readouterr().out)["files"][0]
    assert again["was_there"] and again["url"] == f"{server}/good/datasets.zip"
    assert len(Handler.asked) == asked


@pytest.mark.parametrize(
    ("kind", "digest", "message"),
    [
        ("good", "0" * 64, f"got sha256 {DIGEST}, expected 000"),
        ("good", "", f"got git blob .*, expected {addresses.RELEASED.git_blob}"),
        ("short", DIGEST, r"(ended after|download failed).*try again|run the command again"),
        ("endless", DIGEST, "is not the expected file"),
        ("none", DIGEST, "returned 404"),
    ],
)
def test_a_wrong_file_leaves_nothing_behind(server, tmp_path, capsys, kind, digest, message):
    assert fetch(tmp_path, f"{server}/{kind}", digest=digest) == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("distill:")]
    assert re.search(message, line), line
    assert {p.name for p in tmp_path.iterdir()} == {"NOTICE.txt"}


def test_without_a_network_the_message_says_what_to_do(tmp_path, capsys):
    with socket.socket() as taken:  # bound, not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        assert fetch(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}") == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("distill:")]
    for word in ("cannot reach", addresses.RELEASED.url, "--source", "--raw_dir"):
        assert word in line


def test_what_a_killed_fetch_left_is_not_used(server, tmp_path, capsys):
    (tmp_path / ".datasets.zip.0123abcd.tmp").write_bytes(ZIP[:30])
    (tmp_path / ".datasets.0123abcd.tmp" / "old").mkdir(parents=True)
    assert fetch(tmp_path, f"{server}/good") == 0
    assert (tmp_path / "datasets.zip").read_bytes() == ZIP
    assert not (tmp_path / "datasets" / "old").exists()


def test_a_file_put_there_by_hand_is_checked_like_any_other(tmp_path, capsys):
    (tmp_path / "datasets.zip").write_bytes(ZIP)
    assert fetch(tmp_path, "http://127.0.0.1:9") == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["url"] == "put there by hand"
    (tmp_path / "datasets.zip").write_bytes(ZIP + b" ")
    assert fetch(tmp_path, "http://127.0.0.1:9") == 2
    assert "is not the expected file" in capsys.readouterr().err


def test_a_folder_serves_as_source(tmp_path, capsys):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "datasets.zip").write_bytes(ZIP)
    assert fetch(tmp_path / "out", str(tmp_path / "mirror")) == 0
    assert fetch(tmp_path / "out2", str(tmp_path / "none")) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--only=dataset.zip", "closest: datasets.zip"),
        ("--sha256=vocab=00", "unknown file 'vocab'"),
        ("--sha256=datasets.zip=00", "expected 64 hexadecimal digits"),
        ("--sha256=00", "expected FILE=DIGEST"),
    ],
)
def test_bad_flags(tmp_path, capsys, flag, message):
    assert fetch(tmp_path, "http://127.0.0.1:9", flag) == 2
    assert message in capsys.readouterr().err


def test_the_vocabulary_is_known_by_its_ids(shared_dir, tmp_path, capsys):
    name = addresses.VOCABULARY.file
    argv = ["data", "fetch", f"--output={tmp_path}/out", f"--only={name}", "--json"]
    assert cli.main([*argv, f"--source={shared_dir / 'data' / 'vocab'}"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["vocabulary_path"] == str(tmp_path / "out" / name)
    assert result["files"][0]["checked"] == "ids of T5's vocabulary"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_bytes(b"no model")
    argv[2] = f"--output={tmp_path}/out2"
    assert cli.main([*argv, f"--source={tmp_path / 'bad'}"]) == 2
    assert "is not T5's vocabulary" in capsys.readouterr().err
    assert not (tmp_path / "out2" / name).exists()
