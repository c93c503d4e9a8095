"""Digests of files agree with other tools and see every change."""

from __future__ import annotations

import hashlib
import subprocess

from distill.common import digests


def test_one_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1000)
    assert digests.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert digests.git_blob(path) == git.stdout.strip()


def test_several_files_count_with_name_content_and_order(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("x")
    second.write_text("y")
    expected = hashlib.sha256(b"1:a:1:x1:b:1:y").hexdigest()
    assert digests.sha256_files(tmp_path, [first, second]) == expected
    assert digests.sha256_files(tmp_path, [second, first]) != expected
