"""What `distill results` printed, as rows."""

from __future__ import annotations

import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def read_results(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of the first table of a file, by the names of its columns."""
    head, rule, *lines = path.read_text().splitlines()
    ends = [match.end() for match in re.finditer("-+", rule)]
    starts = [0, *(end + 2 for end in ends[:-1])]
    names = [head[a:b].strip() for a, b in zip(starts, ends, strict=True)]
    rows = []
    for line in lines:
        if not line.strip():
            break
        rows.append({n: line[a:b].strip() for n, a, b in zip(names, starts, ends, strict=True)})
    return rows


def read_table(path: pathlib.Path, section: str) -> list[list[str]]:
    """The cells of the last table of a page's section, without its head."""
    text = re.split(r"\n##+ ", path.read_text().split(f"# {section}\n")[1])[0]
    table: list[list[str]] = []
    for line in text.splitlines():
        if re.match(r"\|[-|]+\|$", line):
            table = []
        elif line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table
