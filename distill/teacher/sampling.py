"""What is asked of a model besides the prompt, the request's body, and the key of an answer."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distill.common.flags import check_bounds, flag
from distill.common.text_files import parse_json
from distill.errors import UserError
from distill.teacher.answers.schema import response_format

if TYPE_CHECKING:
    from distill.data.examples import Example
    from distill.teacher.prompts import Prompt

_MAX_SEED = 2**31
_MOST_STOPS = 4  # that OpenAI takes
PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_ABOUT = ("api", "model", "settings", "prefix")
_LENGTHS = ("max_tokens", "max_completion_tokens")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of a request; all of them but `reasoning` are part of an answer's digest.

    `for_prompt` fills in what is left to the prompt. If `extra` names max_completion_tokens,
    max_tokens is not sent. A longest completion is at least 1 token: some servers take 0 as
    unlimited.

    Attributes without a flag:
      stops: texts at which the server ends a completion.
    """

    model: str = flag("", "name of the model at the endpoint")
    api: str = flag("chat", "API of the endpoint", choices=tuple(PATHS))
    temperature: float | None = flag(
        None, "sampling temperature; default: 0 for one sample, 0.7 for several", least=0, most=100
    )
    top_p: float | None = flag(
        None, "nucleus sampling; default: that of the server", least=0, most=1
    )
    max_tokens: int | None = flag(
        None, "maximum tokens per completion; default: that of the prompt file"
    )
    seed: int | None = flag(
        None, "base seed; sample k is requested with seed + k", name="sample_seed"
    )
    no_temperature: bool = flag(False, "send no temperature (some models refuse any)")
    no_stop: bool = flag(False, "send no stop sequences (some models refuse them)")
    reasoning: str = flag(
        "auto",
        "whether the model writes thoughts before its answer; yes: send no stop sequences, which "
        "would cut the thoughts off; no: send them; auto: send them until an answer contains "
        "thoughts",
        choices=("auto", "yes", "no"),
    )
    response_format: str | None = flag(
        None, "ask for answers as JSON; the server must support it", choices=("json_schema",)
    )
    extra: str = flag("{}", "additional fields for every request", metavar="JSON")
    stops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.api not in PATHS:
            raise UserError(f"got --api {self.api!r}, expected one of {', '.join(PATHS)}")
        try:
            extra = parse_json(self.extra)
        except ValueError as error:
            raise UserError(f"--extra: got {self.extra!r}, expected a JSON object") from error
        if not isinstance(extra, dict):
            raise UserError(f"--extra: got {self.extra!r}, expected a JSON object")
        lengths = {f"--extra {name}": extra[name] for name in _LENGTHS if name in extra}
        if self.max_tokens is not None:
            lengths["--max_tokens"] = self.max_tokens
        for name, length in lengths.items():
            if not isinstance(length, int) or isinstance(length, bool) or length < 1:
                raise UserError(
                    f"got {name} {length!r}, expected at least 1: some servers take 0 as unlimited"
                )
        if self.no_temperature and self.temperature is not None:
            raise UserError("got both --temperature and --no_temperature, expected only one")
        if self.response_format and self.api != "chat":
            raise UserError(f"--response_format needs --api=chat, got --api={self.api}")
        for name in ("model", "messages", "prompt", "n", "seed", "stream"):
            if name in extra:
                raise UserError(f"--extra must not set {name!r}")

    def for_prompt(self, prompt: Prompt, samples: int = 1) -> Sampling:
        """These settings with what the prompt and the number of samples decide.

        Raises:
          UserError: several samples at temperature 0.
        """
        temperature = self.temperature
        if temperature is None and not self.no_temperature:
            temperature = 0.7 if samples > 1 else 0.0
        if samples > 1 and temperature == 0:
            raise UserError(
                f"--samples {samples} at --temperature 0 would all be the same: raise the "
                "temperature"
            )
        return dataclasses.replace(
            self,
            temperature=temperature,
            max_tokens=prompt.max_tokens if self.max_tokens is None else self.max_tokens,
            stops=() if self.no_stop else prompt.stops[:_MOST_STOPS],
        )

    def sent_stops(self, reasons: bool = False) -> tuple[str, ...]:
        """The stops that are sent; the others are applied to the answers alone.

        Args:
          reasons: whether the model is known to write thoughts, in which stops would end it.

        Returns:
          None of a model that reasons. For chats, those with other characters than white space:
          such a model ends its answers itself, and writes paragraphs.
        """
        if reasons or self.reasoning == "yes":
            return ()
        return tuple(stop for stop in self.stops if self.api == "completions" or stop.strip())

    def body(
        self, prompt: Prompt, row: Example, count: int, first: int, reasons: bool = False
    ) -> dict[str, Any]:
        """The JSON body that asks for samples first, first + 1, ... first + count - 1.

        Args:
          prompt, row: what is asked.
          count, first: the samples.
          reasons: see `sent_stops`.
        """
        body: dict[str, Any] = {"model": self.model}
        if self.api == "chat":
            body["messages"] = prompt.messages(row)
        else:
            body["prompt"] = prompt.text(row)
        body |= self._settings
        if self.stops and "stop" not in json.loads(self.extra):
            body["stop"] = list(self.sent_stops(reasons))
            if not body["stop"]:
                del body["stop"]
        if self.response_format:
            body["response_format"] = response_format(prompt.closed_set(row))
        if count > 1:
            body["n"] = count
        if self.seed is not None:
            body["seed"] = (self.seed + first) % _MAX_SEED
        return body

    @property
    def as_json(self) -> bool:
        """Whether answers are asked for as JSON."""
        return self.response_format is not None

    @functools.cached_property
    def _settings(self) -> dict[str, object]:
        extra = json.loads(self.extra)
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": None if "max_completion_tokens" in extra else self.max_tokens,
            "stop": list(self.stops) or None,
            "response_format": self.response_format,
        }
        return {name: value for name, value in settings.items() if value is not None} | extra

    @property
    def longest(self) -> int:
        """The most tokens that one completion may have."""
        return json.loads(self.extra).get("max_completion_tokens", self.max_tokens)


class Digests:
    """Digests of a prompt, a model and its settings, row by row.

    What is hashed is what is asked; the parser and the label set are not (unless they are sent as a
    JSON schema), so that an answer can be parsed again another way.

    Attributes:
      about: what all rows share: API, model, settings, and the prompt before the question.
      any_ends: whether answers are taken from a store that other stops, or another longest
        completion, may have cut short; see `samples.stored_key`.
    """

    def __init__(self, prompt: Prompt, sampling: Sampling) -> None:
        self.prompt, self._json = prompt, bool(sampling.response_format)
        self.any_ends = False
        self._others: tuple[Digests, ...] | None = None
        self._set_about(
            {
                "api": sampling.api,
                "model": sampling.model,
                "settings": {**sampling._settings, "seed": sampling.seed},
                "prefix": prompt.prefix(sampling.api),
            }
        )

    def _set_about(self, about: Mapping[str, Any]) -> None:
        self.about = {name: about[name] for name in _ABOUT}
        head = json.dumps(list(self.about.values()), sort_keys=True)
        self._hash = hashlib.blake2b(_encoded(head), digest_size=16)

    def others(self, described: Callable[[], Iterable[Mapping[str, Any]]]) -> tuple[Digests, ...]:
        """Digests of the same requests under other stops, or another longest completion.

        Args:
          described: gives `about` of the answers of a store; it is called once.
        """
        if self._others is not None:
            return self._others
        others = []
        for about in described():
            same = about != self.about and all(name in about for name in _ABOUT)
            if same and _without_ends(about) == _without_ends(self.about):
                other = copy.copy(self)
                other._set_about(about)
                others.append(other)
        self._others = tuple(others)
        return self._others

    @property
    def stops(self) -> tuple[str, ...]:
        """The stops that a request may have been sent with."""
        stops = self.about["settings"].get("stop") or ()
        return (stops,) if isinstance(stops, str) else tuple(stops)

    @property
    def longest(self) -> tuple[object, ...]:
        """The longest completion, under each name that requests have for it."""
        return tuple(self.about["settings"].get(name) for name in _LENGTHS)

    @property
    def head(self) -> str:
        """32 hex digits for what all rows share."""
        return self._hash.hexdigest()

    def of(self, row: Example) -> str:
        """32 hex digits for what a row's request says (whatever the number of samples)."""
        hasher = self._hash.copy()
        hasher.update(_encoded(self.prompt.question(row)))
        if self._json:
            hasher.update(_encoded(json.dumps(list(self.prompt.closed_set(row)))))
        return hasher.hexdigest()


def _without_ends(about: Mapping[str, Any]) -> dict[str, object]:
    """What is asked, without what only decides where a completion ends."""
    settings = about["settings"] if isinstance(about["settings"], Mapping) else {}
    kept = {name: value for name, value in settings.items() if name not in ("stop", *_LENGTHS)}
    return {**about, "settings": kept}


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
