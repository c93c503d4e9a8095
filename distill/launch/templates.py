"""The files of launch/, which hosts, clusters and clients read."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path

from distill.config.files import gin_root


def path_of(name: str) -> Path:
    """The path of a file, given its name below launch/."""
    return gin_root() / "launch" / name


def render(name: str, values: Mapping[str, object]) -> str:
    """Fills in the names of a template.

    Args:
      name: of the file, below launch/.
      values: texts by the name in the template; other values are written as JSON, which YAML
        can read.

    Raises:
      KeyError: the template has a name without a value.
    """
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
    return string.Template(path_of(name).read_text()).substitute(texts)
