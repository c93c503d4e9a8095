"""Addresses that users give, checked before anything is asked of them."""

from __future__ import annotations

import re
import urllib.parse

from distill.errors import UserError

_HOST = re.compile(r"[\w.:%-]+")  # names, also of other alphabets, and IPv4 and IPv6 numbers


def check_http_url(url: str, where: str, example: str) -> None:
    """Refuses what is not an address of http or https with a host, and a port that exists.

    Args:
      url: the address.
      where: the flag that gave it.
      example: an address of the right form, for the message.

    Raises:
      UserError: says what is wrong with it.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port  # raises ValueError beyond 65535
    except ValueError as error:
        raise UserError(f"got {where} {url!r} ({error}), expected e.g. {example}") from error
    sound = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "")
    if not sound or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UserError(f"got {where} {url!r}, expected e.g. {example}")
