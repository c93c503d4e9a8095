"""`distill new`: looks at a file of rows and makes a folder that trains a student for them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from distill.common import atomic
from distill.common.progress import Stage
from distill.config.resolve import absolute_path
from distill.data.formats.record_files import open_records
from distill.data.mapping.row_mapping import TRAINED, mapping_of
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError
from distill.new.shape import Shape, find_shape
from distill.new.task import Created, Request, Task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def create(request: Request) -> Created:
    """Makes the folder; nothing that exists is changed.

    Raises:
      UserError: a folder that exists; rows that cannot be read, or in which input or label are not
        found; too few rows; a checkpoint that does not say its vocabulary.
    """
    folder = _check_folder(request.folder)
    shape = _shape_of(request)
    texts = [f"{field}={template}" for field, template in shape.fields.items()]
    mapping = mapping_of(texts, shape.label_names, TRAINED)
    kind, path = _vocabulary_of(request)
    labels = request.labels or (mapping.names.names if mapping.names else ())
    task = Task(request, folder.name, shape, mapping, kind, make_vocabulary(kind, path), labels)
    with Stage(f"reading {request.input}"):
        task.measure()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with Stage(f"writing {folder}"):
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
            f"{folder} exists; `distill new` changes nothing that exists: choose another name, or "
            "remove the folder"
        )
    return folder


def _shape_of(request: Request) -> Shape:
    """The templates that the user gave, or those that are found."""
    if not request.field:
        records = open_records(request.input, "train")
        return find_shape(records, request.label_names)
    mapping_of(request.field, request.label_names, TRAINED)  # refuses what is no template
    fields: dict[str, str] = {}
    for text in request.field:
        name, _, template = text.partition("=")
        if "\n" in template or "\r" in template:
            raise UserError(
                f"--field: got {text!r}, which has a line break; a Makefile cannot hold it, so "
                "write a space"
            )
        if name in fields:
            raise UserError(
                f"--field: got two templates for `{name}`, expected one: `distill annotate` writes "
                "the rationales of a model in place of those of the file"
            )
        fields[name] = template
    return Shape(fields, request.label_names)


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
