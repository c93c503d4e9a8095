"""Failures of a disk or a bucket are told as such; all other errors stay what they are."""

from __future__ import annotations

import errno
import os

import pytest

from distill.common.atomic import write_text
from distill.common.disk import describe_failure, disk_errors
from distill.errors import UserError


def _full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_found_in_texts_and_causes():
    """TensorStore writes in C++: its errors are texts, and Orbax raises others from them."""
    expected = r"^run cannot be written: No space left on device; free"
    with pytest.raises(UserError, match=expected), disk_errors("run", "free some"):
        raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device [errno=28]")
    with pytest.raises(UserError, match=expected), disk_errors("run", "free some"):
        try:
            raise _full()
        except OSError as error:
            raise RuntimeError("writing failed") from error
    expected = r"^run/a cannot be written: Permission denied"
    with pytest.raises(UserError, match=expected), disk_errors("run", "free some"):
        raise PermissionError(errno.EACCES, "x", "run/a")


def test_a_file_with_the_name_of_a_folder_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path, told in ((file, "it"), (file / "a/b", str(file))):
        for make in (path.mkdir, lambda path=path: path.write_text("")):
            if path == file and make != path.mkdir:
                continue  # writes the file
            with pytest.raises(OSError) as found:
                make()
            expected = f"{path} cannot be read or written: {told} is a file, expected a folder"
            assert describe_failure(found.value, []) == expected
    expected = r"file cannot be written: it is a file, .*; fix"
    with pytest.raises(UserError, match=expected), disk_errors("run", "fix"):
        file.mkdir()
    with pytest.raises(OSError) as found:
        tmp_path.mkdir()  # no file is in its place
    assert describe_failure(found.value, []).endswith("File exists")


def test_a_fault_of_the_program_is_not_one_of_the_disk():
    loop = KeyError("step")
    loop.__cause__ = loop
    for error in (ValueError("a bad shape"), loop, FileNotFoundError(errno.ENOENT, "x", "a")):
        with pytest.raises(type(error)) as found, disk_errors("run", "free some"):
            raise error
        assert found.value is error


def test_only_errors_of_a_bucket_name_the_bucket():
    bucket, failure = ["gs://bucket/run"], OSError("Could not resolve host")
    assert describe_failure(failure, bucket).startswith("gs://bucket/run cannot be read or written")
    assert describe_failure(failure, ["http://host/run", "run"]) is None
    assert describe_failure(KeyError("step"), bucket) is None
    assert describe_failure(OSError(errno.ENOENT, "x"), bucket) is None
    assert "gcsfs" in describe_failure(ImportError("install gcsfs"), bucket)
    assert len(describe_failure(OSError("x" * 9999), bucket)) < 400


def test_an_error_of_a_temporary_file_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as found:
        write_text(tmp_path / "absent" / "a.txt", "x")
    assert found.value.filename == str(tmp_path / "absent" / "a.txt")
