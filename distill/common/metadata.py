"""The metadata server of Compute Engine, which tells a virtual machine about itself."""

from __future__ import annotations

import os
import pathlib
import urllib.error
import urllib.request

_PRODUCT = pathlib.Path("/sys/class/dmi/id/product_name")
_HOSTS = ("GCE_METADATA_HOST", "GCE_METADATA_IP")  # of google-auth and of jax
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_compute_engine() -> bool:
    """Whether this machine runs on Compute Engine; asks no network."""
    if any(os.environ.get(name) for name in _HOSTS):
        return True
    try:
        return "Google" in _PRODUCT.read_text()
    except OSError:
        return False


def read(key: str, timeout: float = 5.0) -> str | None:
    """A value of this instance.

    Args:
      key: below `instance/`, such as "preempted".
      timeout: seconds.

    Returns:
      The value; None if there is no such key.

    Raises:
      OSError: the server does not answer.
    """
    host = next((os.environ[name] for name in _HOSTS if os.environ.get(name)), None)
    url = f"http://{host or 'metadata.google.internal'}/computeMetadata/v1/instance/{key}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with _opener.open(request, timeout=timeout) as answer:
            text: str = answer.read(1 << 16).decode("utf-8", "replace")
            return text.strip()
    except urllib.error.HTTPError as error:
        if error.code in (403, 404):
            return None
        raise
