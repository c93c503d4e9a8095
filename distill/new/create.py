"""`distill new`: looks at a file of rows and makes a folder that trains a student for them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from distill.common import atomic
from distill.common.disk import naming
from distill.common.progress import Stage
from distill.config.resolve import absolute_path
from distill.data.formats.record_files import open_records
from distill.data.mapping.row_mapping import TRAINED, Template, mapping_of, templates_of
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError
from distill.new.shape import Shape, find_shape
from distill.new.task import Created, Request, Task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OPTIONAL = tuple(name for name in TRAINED if name != "input")


def create(request: Request) -> Created:
    """Makes the folder; nothing that exists is changed.

    Raises:
      UserError: a folder that exists; rows that are their own test rows; rows that cannot be read,
        or in which input or label are not found; too few rows; a checkpoint that does not say its
        vocabulary.
    """
    folder = _check_folder(request.folder)
    if request.test_input and absolute_path(request.test_input) == absolute_path(request.input):
        raise UserError(
            f"--test_input and --input are the same file, {request.input}: a student would be "
            "tested on the rows that it trains on; without --test_input, a fifth of the rows is "
            "held out"
        )
    shape = shape_of_request(request)
    texts = [f"{field}={template}" for field, template in shape.fields.items()]
    mapping = mapping_of(texts, shape.label_names, TRAINED)
    kind, path = _vocabulary_of(request)
    task = Task(request, folder.name, shape, mapping, kind, make_vocabulary(kind, path))
    with Stage(f"reading {request.input}"):
        task.measure()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with Stage(f"writing {folder}"), naming(folder):
            created = task.write(scratch, folder)
        scratch.chmod(0o755)
        # Fails on a folder with content, should one have appeared meanwhile.
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return created


def _check_folder(name: str) -> Path:
    """The folder to make."""
    if not atomic.is_local(name):
        raise UserError(f"got the folder {name}, expected one on this machine, for its Makefile")
    folder = Path(name).expanduser()
    if not _NAME.fullmatch(folder.name):
        raise UserError(
            f"got the name {folder.name!r}, expected letters, digits, dots, - and _ (the name is "
            "used in file names and commands)"
        )
    if folder.is_symlink() or folder.exists():
        raise UserError(
            f"{folder} exists; `distill new` changes nothing that exists: choose another name"
            + (", or remove the folder" if folder.is_dir() else "")
        )
    return folder


def shape_of_request(request: Request) -> Shape:
    """The templates that the user gave, and those that are found for the other fields.

    Raises:
      UserError: a bad template; what `find_shape` refuses.
    """
    given: dict[str, Template | None] = {}
    for text in request.field:
        if "\n" in text or "\r" in text:
            raise UserError(
                f"--field: got {text!r}, which has a line break; a Makefile cannot hold it, so "
                "write a space"
            )
        name = text.removesuffix("=")
        if text != f"{name}=" or name not in _OPTIONAL:
            ((name, (template,)),) = templates_of([text], TRAINED).items()
        else:
            template = None
        if name in given:
            raise UserError(f"--field: got two templates for `{name}`, expected one")
        given[name] = template
    return find_shape(open_records(request.input, "train"), request.label_names, given)


def _vocabulary_of(request: Request) -> tuple[str, str]:
    """Kind and absolute path of the student's vocabulary."""
    path = absolute_path(request.vocabulary_path) if request.vocabulary_path else ""
    if not request.init_from:
        return ("sentencepiece", path) if path else ("bytes", "")
    from distill.config import macros, resolve
    from distill.convert.sizes import adopt_sizes

    overrides = [f"INIT_FROM={absolute_path(request.init_from)!r}"]
    read, _, _ = resolve.read_macros(["jsonl_pretrained"], overrides, "native", adopt_sizes)
    if read.value("EMBED_DIM") == macros.REQUIRED:
        raise UserError(
            f"--init_from={request.init_from} does not say its sizes, expected a Hugging Face "
            "folder or a run folder; `distill convert` makes a run folder of a T5X checkpoint"
        )
    if path:
        return "sentencepiece", path
    kind = read.value("VOCABULARY")
    if kind not in ("bytes", "sentencepiece"):
        raise UserError(
            f"--init_from={request.init_from} does not say its vocabulary, or has one of words; "
            "give its SentencePiece model with --vocabulary_path"
        )
    found = str(read.value("VOCABULARY_PATH"))
    return str(kind), absolute_path(found) if found else ""
