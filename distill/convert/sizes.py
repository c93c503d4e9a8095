"""The sizes and the vocabulary that the checkpoint of INIT_FROM or CONTINUE_FROM decides.

`resolve(..., adopt=adopt_sizes)` makes them macros. A run that resumes has its own copy of both:
`adopt_for(run_dir)` takes them from there, and the checkpoint may be gone.
"""

from __future__ import annotations

import functools
import os

from etils import epath

from distill.config import stored
from distill.config.adopted import SIZES, Adopt, Adopted, source_of
from distill.config.macros import Macros, Setting
from distill.config.resolve import absolute_path

_CONFIG = "config.gin"  # of a run folder


def adopt_sizes(read: Macros) -> Adopted | None:
    """What the checkpoint of a configuration decides; None without one that says it.

    Raises:
      UserError: no checkpoint at that path; one whose sizes cannot be read.
    """
    macro, path = source_of(read)
    if not path:
        return None
    from distill.convert import sources  # imports jax, which other configurations do not need

    folder = epath.Path(absolute_path(path))
    kind = sources.kind_of(folder)
    if kind is None:
        sources.find_source(macro, path)  # says what is there instead
    if kind == "hf":
        return _of_hugging_face(folder)
    if (folder / _CONFIG).is_file():
        return _of_run(folder)
    return None


def adopt_for(run_dir: epath.PathLike) -> Adopt:
    """`adopt_sizes` of a run that may have begun.

    Args:
      run_dir: its folder, which need not be there.
    """
    return functools.partial(_adopt_resumed, epath.Path(run_dir))


def _adopt_resumed(run_dir: epath.Path, read: Macros) -> Adopted | None:
    macro, path = source_of(read)
    config = run_dir / _CONFIG
    if path and config.is_file():
        values = stored.load_stored(config.read_bytes(), str(config))
        if values.get(macro) == absolute_path(path):
            return _of_run(run_dir)
    return adopt_sizes(read)


def _of_run(folder: epath.Path) -> Adopted:
    """What a run folder decides; its own copy of the vocabulary, unless the original is there."""
    from distill.common.digests import sha256
    from distill.training import assets

    path = folder / _CONFIG
    values = stored.load_stored(path.read_bytes(), str(path))
    sizes = {name: Setting(values[name], str(path)) for name in SIZES if name in values}
    defaults = {}
    if "VOCABULARY" in values:
        defaults["VOCABULARY"] = Setting(values["VOCABULARY"], str(path))
    own = folder / assets.VOCABULARY / assets.SENTENCEPIECE
    if values.get("VOCABULARY") == "sentencepiece" and own.is_file():
        given = str(values.get("VOCABULARY_PATH", ""))
        is_same = given and epath.Path(given).is_file() and sha256(given) == sha256(own)
        chosen = given if is_same else os.fspath(own)
        defaults["VOCABULARY_PATH"] = Setting(chosen, str(path if is_same else folder))
    return Adopted(sizes, defaults)


def _of_hugging_face(folder: epath.Path) -> Adopted:
    from distill.convert.sources import CONFIG_JSON
    from distill.huggingface import tokenizer
    from distill.huggingface.config_json import read_config

    where = str(folder / CONFIG_JSON)
    found = {name: Setting(value, where) for name, value in read_config(folder).macros.items()}
    defaults = {}
    kind, path = tokenizer.vocabulary_of(folder)
    if kind:
        defaults["VOCABULARY"] = Setting(kind, str(folder))
    if path:
        defaults["VOCABULARY_PATH"] = Setting(path, str(folder))
    return Adopted({name: found[name] for name in SIZES if name in found}, defaults)
