"""A server that answers as Cloud Storage does, to the clients that the package really uses.

TensorStore sends its requests to TENSORSTORE_GCS_HTTP_URL, google-cloud-storage to
STORAGE_EMULATOR_HOST. TensorFlow, which epath reads gs:// with, has a fixed https endpoint, so the
server is also its proxy, with a certificate made for the test.

Objects are written whole, and each write gives a new generation. There are no folders, no renames
(a copy and a delete are two requests) and no appends. `ifGenerationMatch` is obeyed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping

_API = re.compile(r"/(?P<upload>upload/)?storage/v1/b/(?P<bucket>[^/]+)(?:/o(?:/(?P<name>.+))?)?")
_REWRITE = re.compile(r"(?P<name>.+)/rewriteTo/b/(?P<bucket>[^/]+)/o/(?P<target>.+)")
_UPDATED = "2026-01-01T00:00:00.000Z"
_HOSTS = ("www.googleapis.com", "storage.googleapis.com")


@dataclasses.dataclass
class Request:
    """One request: GET, HEAD, POST, PUT or DELETE, and what it is for."""

    number: int  # from 1
    kind: str  # read, stat, list, bucket, start, write, copy or delete
    path: str  # BUCKET/NAME

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


class Store:
    """The objects of all buckets, by BUCKET/NAME; a lock makes each request atomic.

    Attributes:
      objects: content and generation of each object.
      requests: all requests, in their order.
      before: called with each request before it is carried out; a status code that it returns is
        the answer, and nothing is carried out.
      after: called with each request that was carried out; a status code that it returns is the
        answer, as if the true one were lost.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.requests: list[Request] = []
        self.before: Callable[[Request], int | None] = lambda request: None
        self.after: Callable[[Request], int | None] = lambda request: None
        self.lock = threading.RLock()
        self.sessions: dict[str, tuple[str, dict[str, str]]] = {}
        self._generations = itertools.count(1_700_000_000_000_000)

    def clear(self) -> None:
        """Empties the store, and ends its faults."""
        with self.lock:
            self.objects.clear()
            self.requests.clear()
            self.before = self.after = lambda request: None

    def put(self, path: str, content: bytes) -> int:
        """Writes an object; returns its generation."""
        with self.lock:
            generation = next(self._generations)
            self.objects[path] = content, generation
            return generation

    def put_folder(self, path: str, folder: os.PathLike) -> None:
        """Writes all files of a local folder as objects under BUCKET/PREFIX."""
        for file in sorted(pathlib.Path(folder).rglob("*")):
            if file.is_file():
                self.put(f"{path}/{file.relative_to(folder)}", file.read_bytes())

    def get(self, path: str) -> bytes:
        """The content of an object."""
        return self.objects[path][0]

    def names(self, prefix: str = "") -> list[str]:
        """BUCKET/NAME of all objects that begin like this, without the marks of folders."""
        with self.lock:
            return sorted(n for n in self.objects if n.startswith(prefix) and n[-1] != "/")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store
    context: ssl.SSLContext

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        # A TLS connection within this one; its requests are then handled as any other's.
        self.request = self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.setup()
        self.close_connection = False

    def _handle(self) -> None:
        body = self._body()
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        with self.store.lock:
            request, act = self._plan(url.path, query, body)
            code = self.store.before(request)
            answer = (code, {}, b"{}") if code else act()
            if not code and (lost := self.store.after(request)):
                answer = (lost, {}, b"{}")
        self._answer(*answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _plan(self, path: str, query: dict[str, str], body: bytes):
        """The request, and the function that carries it out."""
        store, match = self.store, _API.fullmatch(path)
        if "upload_id" in query:
            target, first = store.sessions[query["upload_id"]]
            return self._note("write", target), lambda: self._write(target, first, body)
        if match is None:  # storage.googleapis.com/BUCKET/NAME
            name = urllib.parse.unquote(path[1:])
            return self._note("read", name), lambda: self._read(name, {})
        bucket = match["bucket"]
        if match["upload"]:
            target = f"{bucket}/{query['name']}"
            if query["uploadType"] == "media":
                return self._note("write", target), lambda: self._write(target, query, body)
            return self._note("start", target), lambda: self._start(target, query)
        if match["name"] is None:
            if match[0].endswith("/o"):
                return self._note("list", f"{bucket}/{query.get('prefix', '')}"), (
                    lambda: self._list(bucket, query)
                )
            return self._note("bucket", bucket), lambda: _json({"name": bucket, "location": "US"})
        if rewrite := _REWRITE.fullmatch(match["name"]):
            source = f"{bucket}/{urllib.parse.unquote(rewrite['name'])}"
            target = f"{rewrite['bucket']}/{urllib.parse.unquote(rewrite['target'])}"
            return self._note("copy", source), lambda: self._copy(source, target)
        name = f"{bucket}/{urllib.parse.unquote(match['name'])}"
        if self.command == "DELETE":
            return self._note("delete", name), lambda: self._delete(name, query)
        if query.get("alt") == "media":
            return self._note("read", name), lambda: self._read(name, query)
        return self._note("stat", name), lambda: self._stat(name)

    def _note(self, kind: str, path: str) -> Request:
        request = Request(len(self.store.requests) + 1, kind, path)
        self.store.requests.append(request)
        return request

    def _stat(self, path: str):
        if path not in self.store.objects:
            return 404, {}, b"{}"
        return _json(_describe(path, *self.store.objects[path]))

    def _read(self, path: str, query: Mapping[str, str]):
        if path not in self.store.objects:
            return 404, {}, b"{}"
        content, generation = self.store.objects[path]
        headers = {"x-goog-generation": str(generation)}
        if query.get("ifGenerationNotMatch") == str(generation):
            return 304, headers, b""
        if not self._matches(path, query):
            return 412, {}, b"{}"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return 200, headers, content
        first, size = int(wanted[1]), len(content)
        if first >= size:
            return 416, {}, b"{}"
        part = content[first : int(wanted[2]) + 1 if wanted[2] else size]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{size}"
        return 206, headers, part

    def _list(self, bucket: str, query: Mapping[str, str]):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names = sorted(
            name.removeprefix(f"{bucket}/")
            for name in self.store.objects
            if name.startswith(f"{bucket}/{prefix}")
        )
        entries: dict[str, dict[str, str] | None] = {}
        for name in names:
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                entries[name[: cut + 1]] = None
            else:
                path = f"{bucket}/{name}"
                entries[name] = _describe(path, *self.store.objects[path])
        # A page is short, so that clients have to ask for the next.
        most = min(int(query.get("maxResults", 50)), 50)
        rest = sorted(name for name in entries if name > query.get("pageToken", ""))
        page = rest[:most]
        answer: dict[str, object] = {
            "items": [entry for name in page if (entry := entries[name])],
            "prefixes": [name for name in page if entries[name] is None],
        }
        if len(rest) > most:
            answer["nextPageToken"] = page[-1]
        return _json(answer)

    def _start(self, target: str, query: dict[str, str]):
        number = str(len(self.store.sessions))
        self.store.sessions[number] = target, query
        url = f"https://{_HOSTS[0]}/upload/storage/v1/b/x/o?upload_id={number}"
        return 200, {"Location": url}, b"{}"

    def _write(self, target: str, query: Mapping[str, str], body: bytes):
        wanted = re.fullmatch(r"bytes (\*|(\d+)-\d+)/(\d+)", self.headers.get("Content-Range", ""))
        if wanted and wanted[1] == "*" and int(wanted[3]):
            return 308, {}, b""  # asks what has arrived: nothing, as a broken upload leaves none
        if not self._matches(target, query):
            return 412, {}, b"{}"
        generation = self.store.put(target, body)
        return _json(_describe(target, body, generation))

    def _copy(self, source: str, target: str):
        if source not in self.store.objects:
            return 404, {}, b"{}"
        content, _ = self.store.objects[source]
        self.store.put(target, content)
        return _json({"done": True})

    def _delete(self, path: str, query: Mapping[str, str]):
        if not self._matches(path, query):
            return 412, {}, b"{}"
        found = self.store.objects.pop(path, None)
        return (404, {}, b"{}") if found is None else (204, {}, b"")

    def _matches(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether an object has the generation that the request asks for; 0 is none."""
        wanted = query.get("ifGenerationMatch")
        return wanted is None or int(wanted) == self.store.objects.get(path, (b"", 0))[1]

    def _answer(self, code: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        del arguments


def _describe(path: str, content: bytes, generation: int) -> dict[str, str]:
    name = path.partition("/")[2]
    return {
        "name": name,
        "size": str(len(content)),
        "generation": str(generation),
        "updated": _UPDATED,
    }


def _json(content: object):
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _certificate(folder: pathlib.Path) -> tuple[pathlib.Path, ssl.SSLContext]:
    """A certificate for the hosts of Cloud Storage, and the context of a server that has it."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ",".join(f"DNS:{host}" for host in _HOSTS)
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    files = ["-keyout", str(key), "-out", str(certificate)]
    argv = [*words.split(), *files, "-subj", "/CN=store", "-addext", f"subjectAltName={names}"]
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # as of a client that was killed
            super().handle_error(request, address)


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[tuple[Store, dict[str, str]]]:
    """Serves an empty store within the block.

    Args:
      folder: where the certificate goes.

    Yields:
      The store, and the environment variables that lead its clients to it.
    """
    certificate, context = _certificate(folder)
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store, "context": context})
    server = _Server(("localhost", 0), handler)
    url = f"http://localhost:{server.server_port}"
    environment = {
        "TENSORSTORE_GCS_HTTP_URL": url,
        "STORAGE_EMULATOR_HOST": url,
        "https_proxy": url,
        "CURL_CA_BUNDLE": str(certificate),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        "NO_GCE_CHECK": "true",
        # TensorFlow waits 10 ms before it repeats a request, not 1 s.
        "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "10000",
        "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "20000",
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store, environment
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
