"""Writes docs/reference/macros.md and docs/reference/commands.md: `python -m distill.reference`."""

from __future__ import annotations

from distill.common.atomic import write_text
from distill.config import files
from distill.reference import commands, macros

PAGES = {"docs/reference/macros.md": macros.render, "docs/reference/commands.md": commands.render}


def write_pages() -> None:
    """Writes each page into the checkout."""
    for name, render in PAGES.items():
        write_text(files.gin_root() / name, render())


if __name__ == "__main__":
    write_pages()
