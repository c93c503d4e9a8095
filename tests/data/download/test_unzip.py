"""A zip is unpacked inside its folder, all of it or nothing."""

from __future__ import annotations

import stat
import zipfile

import pytest
from etils import epath

from distill.data.download.unzip import unpack
from distill.errors import UserError


def archive(folder, *members):
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            file.writestr(name, "text")
    return epath.Path(path)


def test_a_shared_first_folder_is_left_out_and_other_layouts_are_kept(tmp_path):
    unpack(archive(tmp_path, "datasets/cqa/x", "datasets/y"), epath.Path(tmp_path / "one"), "1")
    assert (tmp_path / "one" / "cqa" / "x").read_text() == "text"
    unpack(archive(tmp_path, "cqa/x", "datasets/y"), epath.Path(tmp_path / "two"), "2")
    assert (tmp_path / "two" / "datasets" / "y").exists()


@pytest.mark.parametrize(
    "name", ["../x", "datasets/../../x", "/etc/x", "C:/x", "a\\..\\x", "datasets/a/../../../x"]
)
def test_no_member_lies_outside(tmp_path, name):
    path = archive(tmp_path, "datasets/good", name)
    with pytest.raises(UserError, match="is a link or lies outside its folder"):
        unpack(path, epath.Path(tmp_path / "deep" / "out"), "")
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def test_links_are_refused(tmp_path):
    info = zipfile.ZipInfo("datasets/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UserError, match="is a link or lies outside"):
        unpack(archive(tmp_path, info), epath.Path(tmp_path / "out"), "")


def test_a_damaged_zip_leaves_no_folder(tmp_path):
    path = archive(tmp_path, "datasets/x")
    content = path.read_bytes()
    for broken in (content[:-10], content.replace(b"text", b"tExt", 1), b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="is not a complete zip file"):
            unpack(path, epath.Path(tmp_path / "out"), "")
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="contains no files"):
        unpack(archive(tmp_path, "__MACOSX/x"), epath.Path(tmp_path / "out"), "")


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    path, out = archive(tmp_path, "datasets/x"), epath.Path(tmp_path / "out")
    unpack(path, out, "one")
    unpack(path, out, "one")
    with pytest.raises(UserError, match=r"was not unpacked from this a\.zip"):
        unpack(path, out, "two")
