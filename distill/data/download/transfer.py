"""Brings one file from an address: streamed, under a temporary name until it is whole."""

from __future__ import annotations

import contextlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import BinaryIO

from etils import epath

from distill.common.atomic import atomic_path
from distill.common.progress import Progress
from distill.common.urls import check_http_url
from distill.errors import UserError

_BLOCK = 1 << 20  # a MiB, as the progress counts
_TIMEOUT_SECONDS = 30
_STORES = ("gs", "s3")  # that epath reads


def download(url: str, path: epath.Path, check: Callable[[epath.Path], None], fix: str) -> None:
    """Writes what an address holds to `path`, once `check` has seen it.

    The bytes go to a temporary file in the same folder, so that a killed download leaves
    nothing under the final name; the next one starts again.

    Args:
      url: http, https, or a path (local or on gs://).
      path: the file to write, local or on gs://; its folder exists.
      check: called with the temporary file; raises UserError if it is not the right one.
      fix: a sentence for the error messages: what to do without this address.

    Raises:
      UserError: an address that cannot be reached or does not have the file, fewer
        bytes than announced, or what `check` complains of.
    """
    try:
        with atomic_path(path) as scratch:
            with _open(url, fix) as (source, size), scratch.open("wb") as file:
                got = _copy(source, file, path.name, size)
            if size is not None and got != size:
                raise UserError(f"{url} ended after {got} of {size} bytes; try again. {fix}")
            check(scratch)
    except (OSError, http.client.HTTPException) as error:  # the connection, or the disk
        raise UserError(
            f"{url}: the download failed ({error}); run the command again. {fix}"
        ) from error


@contextlib.contextmanager
def _open(url: str, fix: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The bytes of an address and their number, if it is announced."""
    if not url.startswith(("http://", "https://")):
        scheme, colon, _ = url.partition("://")
        if colon and scheme not in _STORES:
            raise UserError(
                f"got the address {url!r}, expected http://, https://, a folder, or "
                f"{' or '.join(f'{name}://' for name in _STORES)}. {fix}"
            )
        source = epath.Path(url)
        if not source.exists():
            raise UserError(f"{url} does not exist. {fix}")
        with source.open("rb") as file:
            yield file, source.stat().length
        return
    check_http_url(url, "the address", "https://example.org/data.zip")
    request = urllib.request.Request(url, headers={"User-Agent": "distill"})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url} returned {error.code} {error.reason}. {fix}") from error
    except (OSError, http.client.HTTPException) as error:  # no name, no route, refused, too late
        reason = getattr(error, "reason", error)
        raise UserError(f"cannot reach {url} ({reason}). {fix}") from error
    with response:
        size = response.headers.get("Content-Length")
        if size and not re.fullmatch(r"[0-9]{1,18}", size):
            raise UserError(f"{url} sent {size!r} as its Content-Length, expected a number. {fix}")
        yield response, int(size) if size else None


def _copy(source: BinaryIO, file: BinaryIO, name: str, size: int | None) -> int:
    """Copies block by block and shows the progress; returns the number of bytes."""
    copied, blocks = 0, None if size is None else -(-size // _BLOCK)
    with Progress(blocks, description=name, unit="MiB") as bar:
        while block := source.read(_BLOCK):
            file.write(block)
            copied += len(block)
            bar.update()
    return copied
