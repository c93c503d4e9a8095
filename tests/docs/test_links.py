"""Relative links of Markdown pages, and pages that other files name, lead to a file and heading."""

from __future__ import annotations

import functools
import pathlib
import re

import pytest
from shell_blocks import ROOT

FOLDERS = (".github", "distill", "docs", "gin", "launch", "requirements", "tasks", "tests")
PAGES = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
OTHERS = [
    path
    for name in FOLDERS
    for suffix in ("py", "gin", "toml", "txt", "sh")
    for path in (ROOT / name).rglob(f"*.{suffix}")
]


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@functools.cache
def anchors(page: pathlib.Path) -> set[str]:
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE):
        name, copies = anchor_of(heading), 0
        while (anchor := f"{name}-{copies}" if copies else name) in found:
            copies += 1
        found.add(anchor)
    return found


def fault(source: pathlib.Path, folder: pathlib.Path, target: str) -> str | None:
    path, _, anchor = target.partition("#")
    page = (folder / path).resolve() if path else source
    where = f"{source.relative_to(ROOT)}: {target}"
    if not page.exists():
        return f"{where}: no such file"
    if anchor and page.suffix == ".md" and anchor not in anchors(page):
        return f"{where}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [bad for target in local if (bad := fault(page, page.parent, target))] == []


def test_pages_that_other_files_name():
    named = [
        (path, target)
        for path in OTHERS
        for target in re.findall(r"(?<![\w./])docs/[\w/]+\.md(?:#[\w-]+)?", path.read_text())
    ]
    assert len(named) > 50
    assert [bad for path, target in named if (bad := fault(path, ROOT, target))] == []


def test_a_wrong_link_is_seen():
    page = ROOT / "docs/gin.md"
    assert fault(page, page.parent, "gin.md#no-such-heading").endswith("no such heading")
    assert fault(page, page.parent, "no_such_page.md").endswith("no such file")
    assert fault(page, page.parent, "#" + anchor_of("Resuming")) is None
