"""Writes gin/engines/defaults.gin, which gives gin the defaults of the dataclasses.

gin macros have no defaults, and T5X reads the same files as this package, so a gin file must set
them. `python -m distill.config.defaults` generates it from the dataclasses.
"""

from __future__ import annotations

from distill.common.atomic import write_text
from distill.config import fields, files

FILE = "gin/engines/defaults.gin"
_HEADER = """\
# The default of every macro, generated from the dataclasses in distill/config. Do not edit.
# To update it, run: python -m distill.config.defaults
# Provides: the macros of gin/engines/common.gin. Requires: nothing.
# Override as needed: in any file that is read later, or with --gin.NAME=value.
"""


def render() -> str:
    """The content of the file."""
    lines, part = [], ""
    written = set()
    for binding in fields.bindings():
        if binding.macro in written:
            continue
        written.add(binding.macro)
        if binding.part != part:
            part = binding.part
            lines.append(f"\n# {part}")
        value = fields.defaults()[binding.macro]
        text = "%gin.REQUIRED" if value is fields.REQUIRED else repr(value)
        lines.append(f"{binding.macro} = {text}")
    return _HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(files.gin_root() / FILE, render())
