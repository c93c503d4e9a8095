"""Proxies and certificates that the HTTP library takes from the environment."""

from __future__ import annotations

import importlib.util
import os
import ssl
import urllib.request
from urllib.parse import urlsplit

from distill.errors import UserError

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SCHEMES = ("http", "https", "socks5", "socks5h")


def check_environment() -> None:
    """Refuses values that the HTTP library cannot use.

    Raises:
      UserError: a proxy that is no URL or needs a package, or certificates that cannot be read;
        names the variable.
    """
    for name in (*_PROXIES, *map(str.lower, _PROXIES)):
        if value := os.environ.get(name, ""):
            _check_proxy(name, value)
    file, folder = (os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    for name, path, check in (
        ("SSL_CERT_FILE", file, os.path.isfile),
        ("SSL_CERT_DIR", folder, os.path.isdir),
    ):
        if path and not check(path):
            raise UserError(
                f"got {name}={path} in the environment, which is not there: correct or unset it"
            )
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            raise UserError(
                f"got SSL_CERT_FILE={file} in the environment, expected a file of certificates in "
                f"PEM format ({error.strerror or error}): correct or unset it"
            ) from None


def _check_proxy(name: str, value: str) -> None:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or beyond 65535
        is_sound = False
    if not is_sound:  # the value may hold a password
        raise UserError(
            f"{name} in the environment is not the address of a proxy: expected "
            "http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT; correct or unset it"
        )
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise UserError(
            f"{name} in the environment is a SOCKS proxy, which needs the package socksio: pip "
            "install socksio, or unset it"
        )


def proxy_of(url: str) -> str:
    """The proxy that requests to a URL go through, as HOST:PORT; "" without one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host):
        return ""
    proxies = urllib.request.getproxies()
    value = proxies.get(parts.scheme) or proxies.get("all") or ""
    return value.rpartition("://")[2].rpartition("@")[2].rstrip("/")
