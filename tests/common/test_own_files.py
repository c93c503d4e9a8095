"""Files that are replaced only by the command that wrote them."""

import json
import os

import pytest

from distill.common.own_files import check_content, check_own, writing_own
from distill.common.paths import check_distinct
from distill.errors import UserError

FOREIGN = r"exists and `distill a` did not write it; choose another --output, or delete the file"


def _write(path, text):
    with writing_own(path, "distill a"):
        path.write_text(text)


def test_a_file_is_replaced_by_the_command_that_wrote_it_alone(tmp_path):
    path = tmp_path / "new" / "f"
    check_own(path, "--output", "distill a")  # absent
    _write(path, "one")
    check_own(path, "--output", "distill a")
    _write(path, "two")
    with pytest.raises(UserError, match="did not write it"):
        check_own(path, "--output", "distill b")
    path.write_text("corrected by hand")
    with pytest.raises(UserError, match="has changed since `distill a` wrote it"):
        check_own(path, "--output", "distill a")
    path.unlink()
    check_own(path, "--output", "distill a")


def test_a_writer_that_was_killed_may_write_again(tmp_path):
    path = tmp_path / "f"
    _write(path, "one")
    with pytest.raises(KeyboardInterrupt), writing_own(path, "distill a"):
        path.write_text("half")
        raise KeyboardInterrupt
    check_own(path, "--output", "distill a")


@pytest.mark.parametrize("record", [None, "", "[]", "[" * 100_000, "{}", '{"command": ["a"]}'])
def test_a_file_without_a_record_is_foreign(record, tmp_path):
    path, beside = tmp_path / "f", tmp_path / "f.dropped"
    path.write_text("")
    if record is not None:
        (tmp_path / "f.settings.json").write_text(record)
    check_own(path, "--output", "distill a", [beside])  # empty: nothing is lost
    beside.write_text("x")
    with pytest.raises(UserError, match=rf"f\.dropped {FOREIGN}"):
        check_own(path, "--output", "distill a", [beside])
    path.write_text("x")
    with pytest.raises(UserError, match=rf"f {FOREIGN}"):
        check_own(path, "--output", "distill a")


def test_contents_say_whose_they_are(tmp_path):
    path = tmp_path / "f"

    def check():
        check_content(path, "--output", "distill a", lambda c: json.loads(c) == {"a": 1})

    check()
    path.write_text('{"a": 1}')
    check()
    for text in ('{"a": 2}', "no JSON"):
        path.write_text(text)
        with pytest.raises(UserError, match=FOREIGN):
            check()


@pytest.mark.parametrize("link", [None, os.symlink, os.link, "dots"])
def test_two_names_of_one_file_are_one(link, tmp_path):
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_text("x")
    if callable(link):
        link(path, other)
    else:
        other = tmp_path / "none" / ".." / "f" if link else path
    with pytest.raises(UserError, match=r"got --output .* the same as --input .*overwrite it"):
        check_distinct([("--output", str(other))], [("--input", str(path))])
    check_distinct([("--output", str(tmp_path / "h"))], [("--input", str(path))])
