"""`distill data fetch`: the released data and the T5 vocabulary, checked and unpacked.

<output>/datasets.zip                  as it came
<output>/datasets/                     unpacked: what --raw_dir wants
<output>/cc_all.32000.100extra.model   what --vocabulary_path wants
<output>/NOTICE.txt                    origin, licenses, citations
<output>/fetched.json                  address, size, sha256 and check of each file
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from etils import epath

from distill.common.atomic import write_json, write_text
from distill.common.digests import git_blob, sha256
from distill.common.text_files import parse_json
from distill.data.download import addresses, unzip
from distill.data.download.addresses import SOURCES, DownloadSource
from distill.data.download.transfer import download
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError, unknown

_RECORD = "fetched.json"


class FileRecord(TypedDict):
    """What is recorded of a file that was fetched."""

    url: str
    bytes: int
    sha256: str
    checked: str


class FetchedFile(FileRecord):
    """The same, and whether it was there before."""

    file: str
    was_there: bool


class Fetched(TypedDict):
    """What `fetch` gives."""

    output: str
    raw_dir: str | None
    vocabulary_path: str | None
    files: list[FetchedFile]


def fetch(
    output: epath.PathLike,
    mirror: str = "",
    digests: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
) -> Fetched:
    """Fetches the files that are not there yet, checks each, and unpacks the data.

    Each file has to be the known one: the zip by the name git gives its content (or a
    sha256 of the caller's), the vocabulary by T5's ids. The sha256 of each is recorded,
    and a file that no longer has it is refused.

    Args:
      output: the folder to write to, local or on gs://.
      mirror: an address or folder that holds the files under their names; "" takes each
        from its origin.
      digests: file name -> hex sha256 that it has to have, instead of the built-in check.
      only: names of files to fetch; empty fetches all.

    Returns:
      output, raw_dir and vocabulary_path (None for what is not there), and files: for
      each its name, url, bytes, sha256, how it was checked, and whether it was there.

    Raises:
      UserError: an unknown file name, no network, a missing, cut off or wrong file, or
        a zip that would write outside its folder.
    """
    output = epath.Path(output)
    digests = {name: digest.lower() for name, digest in (digests or {}).items()}
    _check_arguments(digests, only)
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file, expected a folder")
    output.mkdir(parents=True, exist_ok=True)
    selected = [source for source in SOURCES if not only or source.file in only]
    write_text(output / "NOTICE.txt", "\n".join(source.notice for source in SOURCES))
    records = _read_records(output)
    files: list[FetchedFile] = []
    for source in selected:
        print(source.notice, file=sys.stderr)
        url = f"{mirror.rstrip('/')}/{source.file}" if mirror else source.url
        record, was_there = _one(source, url, output, digests.get(source.file), records)
        records[source.file] = record
        write_json(output / _RECORD, {"files": records})
        files.append({"file": source.file, **record, "was_there": was_there})
    zip_path, folder = output / addresses.RELEASED.file, output / unzip.FOLDER
    if addresses.RELEASED in selected:
        unzip.unpack(zip_path, folder, f"{records[zip_path.name]['sha256']}\n")
    vocabulary = output / addresses.VOCABULARY.file
    return {
        "output": str(output),
        "raw_dir": str(folder) if folder.is_dir() else None,
        "vocabulary_path": str(vocabulary) if vocabulary.exists() else None,
        "files": files,
    }


def _check_arguments(digests: Mapping[str, str], only: Sequence[str]) -> None:
    names = [source.file for source in SOURCES]
    for flag, requested in (("--sha256", digests), ("--only", only)):
        for name in requested:
            if name not in names:
                raise unknown("file", name, names, flag)
    for name, digest in digests.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UserError(f"--sha256: got {digest!r} for {name}, expected 64 hexadecimal digits")


def _one(
    source: DownloadSource,
    url: str,
    output: epath.Path,
    digest: str | None,
    records: Mapping[str, FileRecord],
) -> tuple[FileRecord, bool]:
    """Record of a file that is right and in place, and whether it was there before."""
    path = output / source.file
    check = functools.partial(_check, source=source, digest=digest)
    was_there = path.exists()
    if was_there:
        previous: Mapping[str, Any] = records.get(source.file, {})
        check(path)
        if previous and previous["sha256"] != sha256(path):
            raise UserError(
                f"{path} has changed since it was fetched (its sha256 was {previous['sha256']}); "
                "remove it and fetch it again"
            )
        url = str(previous.get("url", "put there by hand"))
    else:
        fix = (
            f"Without a network: download {source.url} elsewhere, put it at {path} and run this "
            "again; or give a folder or address that holds the files with --source; or unpack "
            "the data yourself and give --raw_dir (and --vocabulary_path) to the other commands"
        )
        download(url, path, check, fix)
    record: FileRecord = {
        "url": url,
        "bytes": path.stat().length,
        "sha256": sha256(path),
        "checked": _how(source, digest),
    }
    return record, was_there


def _how(source: DownloadSource, digest: str | None) -> str:
    """What a file was checked against, in words."""
    if digest:
        return "sha256 given with --sha256"
    return f"git blob {source.git_blob}" if source.git_blob else "ids of T5's vocabulary"


def _check(path: epath.Path, source: DownloadSource, digest: str | None) -> None:
    """Refuses a file that is not the one of `source`.

    Raises:
      UserError: another digest, or a vocabulary without T5's ids.
    """
    if digest:
        kind, got, expected = "sha256", sha256(path), digest
    elif source.git_blob:
        kind, got, expected = "git blob", git_blob(path), source.git_blob
    else:
        try:
            make_vocabulary("sentencepiece", os.fspath(path))
        except UserError as error:
            raise UserError(f"{source.file} is not T5's vocabulary: {error}") from error
        return
    if got != expected:
        raise UserError(
            f"{source.file} is not the expected file: got {kind} {got}, expected {expected}; it is "
            "truncated or another version. Fetch the original, or accept another version with "
            f"--sha256={source.file}=DIGEST"
        )


def _read_records(output: epath.Path) -> dict[str, FileRecord]:
    path = output / _RECORD
    if not path.exists():
        return {}
    try:
        records: dict[str, FileRecord] = parse_json(path.read_bytes())["files"]
        if any(not isinstance(record["sha256"], str) for record in records.values()):
            raise TypeError("a sha256 that is not a string")
        return records
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run this again") from error
