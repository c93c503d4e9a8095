"""A mock of an OpenAI-compatible batch endpoint that expires, loses, repeats and refuses.

It keeps files and batches in memory. A batch ends after `polls` looks at it. What goes wrong is
decided by `spoil`, request by request, and by attributes.
"""

from __future__ import annotations

import collections
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

from scripted_server import reply

from distill.teacher.storage.store import Store
from distill.tickets import server

# (request, how often its custom id came before) -> lines of the output and of the error file
Spoil = Callable[[dict, int], tuple[list[dict], list[dict]] | None]


def error_line(custom_id: str, code: str, message: str = "it ended") -> dict:
    """A request that was not run."""
    return {"custom_id": custom_id, "response": None, "error": {"code": code, "message": message}}


def line(custom_id: str, body: dict, status: int = 200) -> dict:
    """The result of a request."""
    return {
        "id": "r",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": "q", "body": body},
        "error": None,
    }


class BatchServer:
    """The endpoint.

    Attributes:
      batches, files: by id.
      asked: (digest and first sample, number of samples) of every request that was run.
      polls: looks at a batch until it ends.
      drop: responses that are lost after the request was done, by kind of request.
      unlisted: "batches" -> times that the list lacks the newest batch.
      refuse: responses instead of those of a kind of request.
      hook: called with the kind of each request, and "before" or "after" it is done.
      page: batches of a page of the list.
      log: kinds of the requests.
    """

    def __init__(self, spoil: Spoil | None = None, polls: int = 2) -> None:
        self.respond = server.tickets_teacher()
        self.spoil = spoil or (lambda request, before: None)
        self.polls = polls
        self.batches: dict[str, dict] = {}
        self.files: dict[str, bytes] = {}
        self.asked: collections.Counter[str] = collections.Counter()
        self.looks: collections.Counter[str] = collections.Counter()
        self.drop: collections.Counter[str] = collections.Counter()
        self.unlisted: collections.Counter[str] = collections.Counter()
        self.refuse: dict[str, bytes] = {}
        self.model = server.MODEL
        self.page = 2
        self.hook: Callable[[str, str], object] = lambda kind, when: None
        self.log: list[str] = []

    async def handle(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """See `server.Endpoint.handle`."""
        parts = urlsplit(path)
        name = parts.path.removeprefix("/v1")
        kind = ("POST " if body else "GET ") + re.sub(r"(batch|file)-\d+", "ID", name)
        self.log.append(kind)
        if kind in self.refuse:
            return self.refuse[kind]
        self.hook(kind, "before")
        response = self._handle(kind, name, parse_qs(parts.query), body)
        self.hook(kind, "after")
        if self.drop[kind]:
            self.drop[kind] -= 1
            return None
        return response

    def _handle(self, kind: str, name: str, query: dict, body: bytes) -> bytes:
        number = name.split("/")[2] if name.count("/") >= 2 else ""
        if kind == "POST /files":
            file_id = f"file-{len(self.files) + 1}"
            self.files[file_id] = re.search(rb"\r\n\r\n(\{.*\})\s*\r\n--", body, re.DOTALL)[1]
            return reply(200, {"id": file_id, "object": "file"})
        if kind == "POST /batches":
            request = json.loads(body)
            batch_id = f"batch-{len(self.batches) + 1}"
            names = ("input_file_id", "endpoint", "metadata", "completion_window")
            batch = {each: request[each] for each in names}
            self.batches[batch_id] = batch | {"id": batch_id, "status": "validating"}
            return reply(200, self.batches[batch_id])
        if kind == "GET /batches":
            return reply(200, self._page(query))
        if kind == "GET /files/ID/content":
            return reply(200, self.files[number]) if number in self.files else _missing(number)
        if number not in self.batches:
            return _missing(number)
        if kind == "POST /batches/ID/cancel":
            self.batches[number]["status"] = "cancelled"
            return reply(200, self.batches[number])
        return reply(200, self._look(self.batches[number]))

    def _page(self, query: dict) -> dict:
        newest = list(reversed(self.batches.values()))
        if self.unlisted["batches"]:  # a list that lags behind
            self.unlisted["batches"] -= 1
            newest = newest[1:]
        after = query.get("after", [""])[0]
        start = next((i + 1 for i, each in enumerate(newest) if each["id"] == after), 0)
        data = newest[start : start + self.page]
        return {"data": data, "has_more": start + self.page < len(newest)}

    def _look(self, batch: dict) -> dict:
        self.looks[batch["id"]] += 1
        ended = ("completed", "expired", "failed", "cancelled")
        if batch["status"] not in ended:
            if self.looks[batch["id"]] >= self.polls:
                self._run(batch)
            else:
                batch["status"] = "in_progress"
        return batch

    def _run(self, batch: dict) -> None:
        outputs: list[dict] = []
        errors: list[dict] = []
        requests = [json.loads(each) for each in self.files[batch["input_file_id"]].splitlines()]
        for request in requests:
            before = self.asked[request["custom_id"]]
            self.asked[request["custom_id"]] += 1
            spoiled = self.spoil(request, before)
            results, failed = ([self.answer(request)], []) if spoiled is None else spoiled
            outputs += results
            errors += failed
        expired = any((each.get("error") or {}).get("code") == "batch_expired" for each in errors)
        batch["status"] = "expired" if expired else "completed"
        batch["request_counts"] = {"total": len(requests), "completed": len(outputs), "failed": 0}
        for name, lines in (("output_file_id", outputs), ("error_file_id", errors)):
            if lines:
                batch[name] = f"file-{len(self.files) + 1}"
                text = "".join(json.dumps(each) + "\n" for each in reversed(lines))
                self.files[batch[name]] = text.encode()

    def answer(self, request: dict, count: int | None = None) -> dict:
        """The result of a request that is answered."""
        body = request["body"]
        prompt, n = server._prompt(body), body.get("n", 1) if count is None else count
        texts = [self.respond(prompt, body.get("seed", 0) + i) for i in range(n)]
        return line(
            request["custom_id"], server._content(body, prompt, texts) | {"model": self.model}
        )


def sizes(endpoint: BatchServer) -> list[int]:
    """Requests of each batch, in their order."""
    files = (batch["input_file_id"] for batch in endpoint.batches.values())
    return [len(endpoint.files[name].splitlines()) for name in files]


def stored(folder: pathlib.Path) -> list[dict]:
    """What the store of `o.jsonl` in a folder has."""
    with Store(folder / "o.store", read_only=True) as store:
        return list(store.records())


def _missing(name: str) -> bytes:
    return reply(404, {"error": {"message": f"no such object: {name}", "code": "not_found"}})


@contextmanager
def batch_server(spoil: Spoil | None = None, **settings) -> Iterator[tuple[BatchServer, str]]:
    """Serves one; gives the endpoint and its address."""
    endpoint = BatchServer(spoil, **settings)
    with server.background(endpoint) as url:
        yield endpoint, url
