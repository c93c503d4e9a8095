"""Whether the name of the model that answered is that of the model that was asked."""

from __future__ import annotations

import re

_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = (
    rf"20\d\d-{_MONTH}-{_DAY}|{_MONTH}-{_DAY}|{_MONTH}-20\d\d|20\d\d-{_MONTH}|"  # with hyphens
    rf"20\d\d{_MONTH}{_DAY}|2\d{_MONTH}{_DAY}|{_MONTH}{_DAY}|2\d{_MONTH}|00\d"
)
_VERSION = re.compile(rf"(?:[-@](?:{_DATE}))?")
_LATEST = re.compile(r"[-:@]latest$")
_ROUTE = re.compile(r":(?:free|nitro|floor|beta|online|extended)$")  # of a router, not a model


def same_model(requested: str, served: str) -> bool:
    """Whether a server answers for the model that was asked for.

    Servers name a dated version of an alias (`m-2024-08-06` or `m-0613` for `m` and for
    `m-latest`; `m-mini` and `m-32k` are other models), the file, or the last part of a path; a
    router leaves out how it was asked to choose a server (`m:free`). A server that names nothing is
    believed.

    Args:
      requested: the name in the request.
      served: the name in the response, "" if it has none.
    """
    requested, served = (name.lower().rstrip("/").split("/")[-1] for name in (requested, served))
    if served in ("", requested):
        return True
    requested, served = (_LATEST.sub("", _ROUTE.sub("", name)) for name in (requested, served))
    return (
        served.startswith(requested)
        and _VERSION.fullmatch(served.removeprefix(requested)) is not None
    )
