"""What an error of an endpoint means: for the row, for the job, or for this moment."""

from __future__ import annotations

import html
import json
import re
import urllib.parse

from distill.teacher.endpoint.outcomes import Doubtful, Permanent, Reason, Refused, Retry

_FILTER = re.compile(
    r"content[ _-]?(?:filter|policy|management|moderation|safety)|contentfilter|moderation|"
    r"moderated|\bflagged\b|data_inspection|responsible ?ai|prohibited[ _]content|"
    r"inappropriate content|sensitive (?:content|words?|information)|safety (?:system|filter|"
    r"settings|reasons|policy)",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"api[ _-]?key|authenti|unauthori[sz]ed|credential|access token|permission|subscription|"
    r"billing|country|region|not allowed to access",
    re.IGNORECASE,
)
_PATH = re.compile(
    r"endpoint|\bpath\b|\broute\b|\burl\b|no such method|invalid method|page not found",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"model\b.{0,80}(?:not (?:found|exist|loaded)|unknown)|unknown model|model_not_found|"
    r"(?:invalid|not a valid) model (?:id|name|identifier)",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"(?:api|access)[ _-]?(?:key|token).{0,40}(?:not valid|invalid|expired|incorrect|missing|"
    r"not found|required)|(?:invalid|incorrect|expired|missing|no)[ _](?:api|access)[ _-]?"
    r"(?:key|token)",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"insufficient[ _](?:quota|balance|funds|credits?)|credit balance is too low|"
    r"billing[ _](?:hard[ _]limit|not[ _]active)|out of credits|exceeded your .{0,20}spending",
    re.IGNORECASE,
)
# Gemini says the same of all its quotas, and which one it is in the codes, if at all.
_CURRENT_QUOTA = re.compile(r"exceeded your current quota", re.IGNORECASE)
_DAILY = re.compile(r"per[ _-]?(?:day|month)", re.IGNORECASE)
_SOON = re.compile(r"per[ _-]?(?:minute|second)|retry in [\d.]+ ?s\b", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecognized|not allowed|not permitted|only the default|"
    r"deprecated|extra inputs|unexpected|invalid parameter|does not accept|not accept|"
    r"array too long|maximum \d+ allowed",
    re.IGNORECASE,
)
_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum context|too many (?:input )?tokens|"
    r"(?:prompt|input|request|message|text|sequence|tokens)\b.{0,40} too long|string_above_max|"
    r"token (?:count|limit).{0,60}exceed|exceed.{0,60}(?:token limit|number of tokens)|"
    r"max_new_tokens`? must be",
    re.IGNORECASE,
)
# Parameters of requests that some models refuse, and what to do about it.
_FIXES = {
    "temperature": "add --no_temperature",
    "max_tokens": "add --extra='{\"max_completion_tokens\": 600}'",
    "top_p": "leave out --top_p",
    "stop": "add --no_stop",
    "seed": "leave out --sample_seed",
    "response_format": "leave out --response_format",
}
_SEVERAL = re.compile(r"(?<![\w'\u2019])n(?![\w'\u2019])")  # the parameter n
_STREAM = re.compile(
    r"only supports? stream|stream\w*['\"]? (?:mode|only|must|is required)|"
    r"(?:enable|requires?) (?:the )?['\"]?stream|non-?stream\w* .{0,40}not",
    re.IGNORECASE,
)
_TEMPERATURE = re.compile(
    r"\btemperature\b.*\b(?:must|only|invalid|range|cannot|may not)\b|"
    r"\b(?:must|only|invalid|cannot)\b.*\btemperature\b",
    re.IGNORECASE,
)
_HTML = re.compile(r"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_NO_FILTER = (401, 402, 407, 429)  # statuses that speak of the account, whatever their text


def text_of(body: object) -> str:
    """What the body of an error says: its message, the text of a page, or else its JSON.

    Args:
      body: a text, an object, or a list of one object, as of Gemini.
    """
    body = _only(body)
    if isinstance(body, str):
        return _readable(body)
    for name in ("message", "detail", "msg", "error"):
        value = body.get(name) if isinstance(body, dict) else None
        if isinstance(value, str) and value.strip():
            return value
        if name == "error" and isinstance(value, dict):
            return text_of(value)
    return json.dumps(body) if body is not None else ""


def codes_of(body: object) -> str:
    """The codes and types of an error, without its message, which may quote the row.

    Args:
      body: see `text_of`.
    """
    body = _only(body)
    if not isinstance(body, dict):
        return ""
    codes = [body.get(name) for name in ("code", "type", "param", "status")]
    found = [str(code) for code in codes if isinstance(code, str | int)]
    inner = [body.get(name) for name in ("innererror", "inner_error", "error")]
    found += [codes_of(each) for each in inner]
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and "flagged_input" in metadata:
        found.append("flagged")
    details = body.get("details")
    for detail in details if isinstance(details, list) else ():
        violations = detail.get("violations") if isinstance(detail, dict) else None
        for each in violations if isinstance(violations, list) else ():
            found.append(str(each.get("quotaId") or "") if isinstance(each, dict) else "")
    return " ".join(filter(None, found))


def _only(body: object) -> object:
    return body[0] if isinstance(body, list) and len(body) == 1 else body


def _readable(text: str) -> str:
    """A server's message; of an HTML page its title, else its text without tags."""
    if not is_html(text):
        return text
    title = _TITLE.search(text)
    plain = title.group(2) if title else _TAGS.sub(" ", text)
    return "an HTML page: " + " ".join(html.unescape(_TAGS.sub(" ", plain)).split())


def names_filter(text: str) -> bool:
    """Whether an error is that of a content filter."""
    return _FILTER.search(text) is not None


def is_html(text: str) -> bool:
    """Whether a body is a page for people."""
    return _HTML.match(text) is not None


def version_hint(base_url: str) -> str:
    """What to say of an address without /v1, after a semicolon; "" for others."""
    path = urllib.parse.urlsplit(base_url).path.rstrip("/")
    if re.search(r"/(?:v\d|api|openai)\w*(?:/|$)", path):
        return ""
    return f"; such addresses usually end in /v1: try --base_url={base_url}/v1"


def of_status(
    status: int, text: str, codes: str, base_url: str, wait: float | None = None
) -> Exception:
    """The exception that a status other than 2xx stands for.

    Args:
      status: of the response.
      text: what the server says, without the key.
      codes: its own codes and types of the error, see `codes_of`.
      base_url: the address that was asked.
      wait: seconds of Retry-After.
    """
    message = f"HTTP {status}: {text}"
    if status not in _NO_FILTER and names_filter(f"{codes} {text}"):
        return Refused(message, Reason.FILTERED)
    used_up = f"{base_url}: the quota is used up ({message})"
    if status == 402 or (status in (400, 403, 429) and _QUOTA.search(codes)):
        return Permanent(used_up)
    if status in (400, 403) and _QUOTA.search(text):  # unless the text quotes the row
        reason = Reason.FORBIDDEN if status == 403 else Reason.BAD_REQUEST
        return Doubtful(message, reason, used_up)
    if status == 401 or status == 407:
        return Permanent(f"{base_url} rejects the key ({message}); see --key_env")
    if status == 403:
        rejects = f"{base_url} rejects the key ({message}); see --key_env"
        if _KEY.search(f"{codes} {text}"):
            return Doubtful(message, Reason.FORBIDDEN, rejects)
        otherwise = f"{base_url} refuses the key or the rows ({message}); see --key_env"
        return Doubtful(message, Reason.FORBIDDEN, otherwise, patient=True)
    if status in (404, 405):
        otherwise = f"{base_url} has no such model or path ({message}){version_hint(base_url)}"
        return Doubtful(message, Reason.NOT_FOUND, otherwise)
    if status == 429:
        if _QUOTA.search(text) or _is_used_up(text, codes):
            return Permanent(used_up)
        return Retry(Reason.RATE_LIMITED, message, wait)
    if status in (408, 409, 425) or status >= 500:
        return Retry(Reason.SERVER_ERROR, message, wait)
    if status < 400:
        return Permanent(f"{base_url}: got {message}, expected an answer; correct --base_url")
    if status == 413:
        return Refused(message, Reason.TOO_LARGE)
    return _of_bad_request(message, text, codes, base_url)


def _is_used_up(text: str, codes: str) -> bool:
    """Whether a quota that a 429 names stays used up for longer than a job waits."""
    if _DAILY.search(codes):
        return True
    return bool(_CURRENT_QUOTA.search(text)) and not _SOON.search(f"{codes} {text}")


def _of_bad_request(message: str, text: str, codes: str, base_url: str) -> Refused:
    """What a 400, 422 or the like stands for; see `of_status`."""
    said = f"{codes} {text}"
    if fix := _fix(said):
        otherwise = f"{base_url} refuses a parameter of the request ({message}): {fix}"
        return Doubtful(message, Reason.BAD_REQUEST, otherwise)
    if _LONG.search(said):
        return Refused(message, Reason.TOO_LARGE)
    if _BAD_KEY.search(said):
        rejects = f"{base_url} rejects the key ({message}); see --key_env"
        return Doubtful(message, Reason.BAD_REQUEST, rejects)
    if _MODEL.search(said):
        otherwise = f"{base_url} has no such model or path ({message}){version_hint(base_url)}"
        return Doubtful(message, Reason.NOT_FOUND, otherwise)
    otherwise = f"{base_url} refuses the requests ({message})"
    return Doubtful(message, Reason.BAD_REQUEST, otherwise, patient=True)


def _fix(text: str) -> str:
    """What to do about a parameter that a server does not take; "" if that is not the error."""
    if _STREAM.search(text):
        return "add --stream"
    if _TEMPERATURE.search(text):
        return _FIXES["temperature"]
    if not _UNSUPPORTED.search(text):
        return ""
    named = (fix for name, fix in _FIXES.items() if re.search(rf"\b{name}\b", text, re.IGNORECASE))
    return next(named, "")


def of_error_body(body: object, base_url: str, said: str) -> Exception:
    """The exception that an error in the body of a response with status 200 stands for.

    Args:
      body: a text, or an object, see `text_of`.
      base_url: the address that was asked.
      said: its text, without the key.
    """
    codes = codes_of(body)
    for code in codes.split():
        if code.isdecimal() and 400 <= int(code) < 600:
            return of_status(int(code), said, codes, base_url)
    message = f"HTTP 200 with an error: {said}"
    if names_filter(f"{codes} {said}"):
        return Refused(message, Reason.FILTERED)
    if _PATH.search(said) or _MODEL.search(said):
        otherwise = f"{base_url} has no such model or path ({message}){version_hint(base_url)}"
        return Doubtful(message, Reason.NOT_FOUND, otherwise)
    if _LONG.search(said):
        return Refused(message, Reason.TOO_LARGE)
    if _SEVERAL.search(f"{codes} {said}") and _UNSUPPORTED.search(said):
        return Refused(message, Reason.BAD_REQUEST)
    if fix := _fix(f"{codes} {said}"):
        otherwise = f"{base_url} refuses a parameter of the request ({message}): {fix}"
        return Doubtful(message, Reason.BAD_REQUEST, otherwise)
    lasting = f"{base_url} answers with an error ({message}){version_hint(base_url)}"
    return Retry(Reason.ERROR_REPLY, message, lasting=lasting)
