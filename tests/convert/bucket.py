"""A bucket gs://NAME that is a local folder, read through epath and through TensorStore.

epath reads gs:// with TensorFlow, whose endpoint cannot be changed, so its backend is replaced.
TensorStore's driver sends its requests to a server of this process, which answers as the JSON API
of Cloud Storage does to reads: the contents of an object, and a list of objects.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import threading
import urllib.parse

from etils.epath import backend as backends
from etils.epath import gpath

_SCHEME = "gs://"


class _Backend(backends._OsPathBackend):
    """Every method on the local path of its gs:// paths."""

    def __init__(self, root):
        self._root = root

    def __getattribute__(self, name):
        method = super().__getattribute__(name)
        if name.startswith("_") or not callable(method):
            return method
        root = self._root

        def on_local(*paths, **settings):
            return method(*(_local(root, path) for path in paths), **settings)

        return on_local

    def glob(self, path):
        return [f"{_SCHEME}{os.path.relpath(found, self._root)}" for found in super().glob(path)]


def _local(root, path):
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    return f"{root}/{text.removeprefix(_SCHEME)}" if str(text).startswith(_SCHEME) else path


def _handler(root):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            _, _, _, _, bucket, _, *name = url.path.split("/", 6)  # /storage/v1/b/BUCKET/o/NAME
            folder = pathlib.Path(root, bucket)
            if not name:
                self._answer(json.dumps({"items": _objects(folder, query.get("prefix", ""))}))
                return
            file = folder / urllib.parse.unquote(name[0])
            if not file.is_file():
                self._answer("{}", 404)
                return
            content, code = file.read_bytes(), 200
            if "Range" in self.headers:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                self._range = int(first), len(content)
                content, code = content[int(first) : int(last) + 1 if last else None], 206
            self._answer(content, code)

        def _answer(self, content, code=200):
            content = content if isinstance(content, bytes) else content.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("x-goog-generation", "1")
            if code == 206:
                first, size = self._range
                last = first + len(content) - 1
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            del arguments

    return Handler


def _objects(folder, prefix):
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [{"name": name, "generation": "1"} for name in names if name.startswith(prefix)]


@contextlib.contextmanager
def buckets(root, monkeypatch):
    """Serves the folders in `root` as buckets within the block."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), _handler(root))
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://localhost:{server.server_port}")
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "fake")
    fake = _Backend(root)
    monkeypatch.setattr(backends, "tf_backend", fake)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", fake)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
