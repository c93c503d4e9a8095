"""The fenced and indented code blocks of the Markdown pages."""

from __future__ import annotations

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))
)
LANGUAGES = {"bash", "text", "json", "gin", "python", "toml", "csv"}
TAGS = {"slow", "network", "tpu", "t5x"}
_FENCE = re.compile(r"^ *```(.*)$")
_COMMAND = re.compile(
    r"^    ([A-Z_]+=\S+ )*(distill|make|python3?|pip|git|export|curl|uv|bash|cat|for|taskset)\s"
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
      page: path of its page from the root.
      line: line of its first line of code.
      language: first word of the fence; "bash" for an indented block that holds commands.
      tags: the other words of the fence.
      text: the code.
      indented: whether it has no fence.
    """

    page: str
    line: int
    language: str
    tags: frozenset[str]
    text: str
    indented: bool = False

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """The fenced blocks of a page, and the indented blocks that hold commands.

    Args:
      page: path from the root.
      text: content; None reads the page.
    """
    lines = ((ROOT / page).read_text() if text is None else text).splitlines()
    blocks, index = [], 0
    while index < len(lines):
        start = index + 1
        fence = _FENCE.match(lines[index])
        if fence:
            end = next(i for i in range(start, len(lines)) if lines[i].strip() == "```")
            words = fence[1].split() or [""]
            code = "\n".join(lines[start:end])
            blocks.append(Block(page, start + 1, words[0], frozenset(words[1:]), code))
            index = end + 1
        elif lines[index].startswith("    ") and (index == 0 or not lines[index - 1].strip()):
            end = start
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            code = [line[4:] for line in lines[index:end]]
            if any(_COMMAND.match(line) for line in lines[index:end]):
                text_of_block = "\n".join(code)
                blocks.append(Block(page, start, "bash", frozenset(), text_of_block, indented=True))
            index = end
        else:
            index += 1
    return blocks
