"""A part of predictions that somebody has changed is found."""

from __future__ import annotations

import pytest
import test_part_files as t

from distill.errors import UserError
from distill.inference import part_files


def test_a_part_that_was_changed_is_found_by_merge_and_by_the_next_start(tmp_path, capsys):
    pattern, folder = t._files(tmp_path), tmp_path / "a"
    t._write(folder, pattern)
    content = t._content(folder)
    part = folder / "part-00003-of-00007.jsonl"
    digest = folder / "digests" / f"{part.name}.sha256"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([lines[1], *lines[1:]]))
    with pytest.raises(UserError, match=r"part-00003-of-00007.jsonl has changed since it was writ"):
        part_files.merge(folder, tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()
    with pytest.raises(UserError, match=r"Delete the part and run .*, delete the .sha256 file"):
        t._write(folder, pattern)
    assert t._write(folder, pattern, 0, 2)["written"] == 0  # part 3 is of process 1 of 2
    written = digest.read_bytes()
    for damaged in (b"", b"\0\xff", written[:60]):
        digest.write_bytes(damaged)
        with pytest.raises(UserError, match=r"/digests/part-00003-of-00007.jsonl.sha256 is damag"):
            part_files.merge(folder)
    digest.unlink()  # the change is kept
    capsys.readouterr()
    t._write(folder, pattern)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 1 part has no digest")
    merged = part_files.merge(folder)
    assert merged["same_ids"] == 1 and merged["without_digest"] == 1
    part.unlink()
    t._write(folder, pattern)
    assert part_files.merge(folder)["without_digest"] == 0
    assert t._content(folder) == content and digest.read_bytes() == written
