"""Answers on disk: append-only shards of JSON lines, one line for each sample of a row.

    <store>/store.json          schema version
    <store>/lock                held by the one process that writes; on gs:// there only then
    <store>/asked-<digest>.json API, model, settings and prompt of the answers
    <store>/shard-00000.jsonl   records, in the order in which they came

A record is `key` (of digest and sample), `ok`, `id`, `digest`, `sample`, and either
`completion` (raw), `finish`, `usage`, `seconds`, `model`, or `failure` and `message`.
Locally each record is written at once and synced in batches: what was written survives
the end of the process, what was synced that of the machine. An object store cannot append:
each sync writes the newest shard again, until it is full and the next begins. What was synced
survives the end of the process.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from distill.common import atomic
from distill.common.object_lock import ObjectLock
from distill.common.text_files import parse_json
from distill.errors import UserError
from distill.teacher.storage import store_lines
from distill.teacher.storage.keys import key_of, position_key
from distill.teacher.storage.locks import FileLock
from distill.teacher.storage.object_shards import NewestShard, RecentObjects, line_at

_HEAD = re.compile(rb'\{"key": "([0-9a-f]{32})", "ok": (true|false), ')
_NAME = re.compile(r"shard-([0-9]{5,})\.jsonl")
_LOCAL_RECORDS = 20_000
_REMOTE_RECORDS = 2000  # of a shard that is written again at each sync: a few MB
_MOST_SHARDS = 99_999  # of the five digits of their names: two billion answers


class Store:
    """The answers of one job; a context manager.

    Args:
      path: the folder; made if need be.
      remote: whether to write whole objects; by default for paths with a scheme (gs://).
      sync_records: records between two syncs.
      sync_seconds: the longest that a record waits for its sync.
      shard_records: records of a shard; by default 20,000, or 2,000 on an object store.
      read_only: takes no lock, heals nothing, and refuses to append.

    Raises:
      UserError: another process holds it, another schema, or a bad record (`file:line`).
    """

    def __init__(
        self,
        path: epath.PathLike,
        remote: bool | None = None,
        sync_records: int = 200,
        sync_seconds: float = 2.0,
        shard_records: int | None = None,
        read_only: bool = False,
    ) -> None:
        self.path = epath.Path(path)
        self._remote = not atomic.is_local(path) if remote is None else remote
        self._sync_records, self._sync_seconds = sync_records, sync_seconds
        default = _REMOTE_RECORDS if self._remote else _LOCAL_RECORDS
        self._shard_records, self._read_only = shard_records or default, read_only
        self._index: dict[bytes, int] = {}
        self._shards: list[epath.Path] = []
        self._readers: dict[int, int] = {}
        self._recent = RecentObjects()
        self._newest: NewestShard | None = None  # of an object store that is written to
        self._fd, self._size, self._in_shard, self._unsynced = -1, 0, 0, 0
        self._synced_at = time.monotonic()
        self._lock: ObjectLock | FileLock | None = None
        self._migrated = False  # whether some keys may hold ids of rows
        if not read_only:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_lock(self) -> ObjectLock | FileLock:
        if not self._remote:
            return FileLock(self.path)
        lock = ObjectLock(self.path / "lock", "wait for it, or choose another --store")
        lock.take()
        self._newest = NewestShard(self.path)
        return lock

    def state(self, key: str) -> bool | None:
        """True if a sample was answered, False if it failed, None if it is not stored."""
        place = self._index.get(bytes.fromhex(key))
        return None if place is None else bool(place & 1)

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a sample, or None; an answer goes before failures."""
        place = self._index.get(bytes.fromhex(key))
        return None if place is None else self._record(place)

    def key_for(self, row_id: str, digest: str, sample: int) -> str:
        """The key under which a sample of a row is stored, or will be.

        Args:
          row_id: the row's id, under which an earlier version may have stored an answer.
          digest: of the row's request.
          sample: its number.
        """
        if self._migrated:
            own = position_key(row_id, digest, sample)
            if self.state(own):
                return own
        return key_of(digest, sample)

    def append(self, record: dict[str, object]) -> None:
        """Adds a record (with `key` and `ok`); it is written when this returns, if local."""
        if self._read_only:
            raise ValueError("the store is open read-only")
        rest = {name: value for name, value in record.items() if name not in ("key", "ok")}
        ordered = {"key": record["key"], "ok": record["ok"], **rest}
        line = json.dumps(ordered).encode() + b"\n"
        if self._in_shard >= self._shard_records and (self._newest or self._fd >= 0):
            self.sync()
            self._close_shard()
        if not self._newest and self._fd < 0:
            self._new_shard()
        shard = len(self._shards) if self._newest else len(self._shards) - 1
        if self._newest:
            self._newest.content += line
        else:
            self._write(line)
        self._note(bytes.fromhex(str(record["key"])), bool(record["ok"]), shard, self._size)
        self._size += len(line)
        self._in_shard += 1
        self._unsynced += 1
        self.sync_if_due()

    def describe(self, name: str, settings: Mapping[str, object]) -> None:
        """Keeps what was asked beside the answers, as `asked-<name>.json`, once."""
        path = self.path / f"asked-{name}.json"
        if not path.exists():
            atomic.write_json(path, settings)

    def described(self) -> list[dict[str, object]]:
        """What `describe` kept."""
        described = []
        for path in sorted(self.path.glob("asked-*.json"), key=lambda path: path.name):
            try:
                settings = parse_json(path.read_bytes())
            except ValueError as error:
                raise UserError(f"{path}: not JSON ({error}); remove it") from error
            if not isinstance(settings, dict):
                raise UserError(f"{path}: expected a JSON object; remove it")
            described.append(settings)
        return described

    def sync_if_due(self) -> None:
        """Syncs if enough records, or the oldest for long enough, wait for it.

        Raises:
          UserError: another process took over (on object stores).
        """
        waited = time.monotonic() - self._synced_at
        if self._unsynced >= self._sync_records or (self._unsynced and waited > self._sync_seconds):
            self.sync()
        elif isinstance(self._lock, ObjectLock):
            self._lock.check()

    def sync(self) -> None:
        """Makes all records durable; raises as `sync_if_due`."""
        if self._unsynced and self._newest:
            self._newest.write(_shard_name(len(self._shards)))
        elif self._unsynced and self._fd >= 0:
            os.fsync(self._fd)
        self._unsynced, self._synced_at = 0, time.monotonic()

    def close(self) -> None:
        """Syncs, and lets the lock go."""
        try:
            self.sync()
        finally:
            self._close_shard()
            for fd in self._readers.values():
                os.close(fd)
            self._readers = {}
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def records(self) -> Iterator[dict[str, Any]]:
        """All records that count, in the order in which they were written."""
        places = {*self._index.values()}  # one of an earlier version has two keys
        for place in sorted(places, key=lambda p: ((p >> 1) & 0xFFFFFF, p >> 25)):
            yield self._record(place)

    def _record(self, place: int) -> dict[str, Any]:
        """The record at a place.

        Raises:
          UserError: it is damaged, with file and line.
        """
        shard, offset, ok = (place >> 1) & 0xFFFFFF, place >> 25, place & 1
        try:
            record: dict[str, Any] = parse_json(self._line(shard, offset))
            problem = store_lines.find_problem(record)
        except ValueError as error:
            problem = f"not JSON ({error})"
        if not problem:
            return record if ok or not record["ok"] else store_lines.as_failure(record)
        with self._shards[shard].open("rb") as file:
            line = file.read(offset).count(b"\n") + 1
        raise UserError(
            f"{self._shards[shard]}:{line}: {problem}; remove the line (its row is then requested "
            "again)"
        )

    def _open(self) -> None:
        header_path = self.path / "store.json"
        header: dict[str, object] = {"schema": store_lines.SCHEMA}
        if header_path.exists():
            header = store_lines.read_header(header_path)
        shards = sorted(
            (int(match.group(1)), path)
            for path in (self.path.iterdir() if self.path.is_dir() else ())
            if (match := _NAME.fullmatch(path.name))
        )
        if shards and not header_path.exists():
            raise UserError(f"{self.path} has shards but no store.json; is it a store?")
        if not self._read_only and not header_path.exists():
            atomic.write_json(header_path, header)
        self._migrated = header["schema"] == store_lines.EARLIER or bool(header.get("migrated"))
        for number, path in shards:
            if number > _MOST_SHARDS:
                raise UserError(
                    f"{path}: expected a shard number of at most {_MOST_SHARDS:,}; move the file "
                    "away"
                )
            # A number that is missing was lost by hand; the list keeps number = position.
            while len(self._shards) < number:
                self._shards.append(self.path / _shard_name(len(self._shards)))
            self._shards.append(path)
            self._scan(number, path, last=path == shards[-1][1])
        if header["schema"] == store_lines.EARLIER and not self._read_only:
            # Its answers stay where they are. The earlier version would not find those to come.
            atomic.write_json(header_path, {"schema": store_lines.SCHEMA, "migrated": True})
        if shards and not self._remote and not self._read_only:
            self._fd = os.open(shards[-1][1], os.O_WRONLY | os.O_APPEND)

    def _scan(self, shard: int, path: epath.Path, last: bool) -> None:
        """Notes the records of a shard; the torn end of the last one is cut off."""
        offset = count = 0
        with path.open("rb") as file:
            lines = iter(file)
            line = next(lines, None)
            while line is not None:
                following = next(lines, None)
                match = _HEAD.match(line)
                good = match is not None and line.endswith(b"}\n")
                if good and following is None and last:
                    good = store_lines.is_json(line)
                if not good and last and following is None:
                    break
                if match is None or not good:
                    raise UserError(
                        f"{path}:{count + 1}: not a record of the store; remove the line (its row "
                        "is then requested again)"
                    )
                key, ok = bytes.fromhex(match[1].decode()), match[2] == b"true"
                if self._migrated:
                    ok = ok and store_lines.is_answer(line)
                    self._note(store_lines.content_key(line, match.end()) or key, ok, shard, offset)
                self._note(key, ok, shard, offset)
                offset += len(line)
                count += 1
                line = following
        if line is not None and not self._read_only and not self._remote:
            store_lines.remove_cut_end(path, offset)
        self._size, self._in_shard = (0, 0) if self._remote else (offset, count)

    def _note(self, key: bytes, ok: bool, shard: int, offset: int) -> None:
        if ok or not self._index.get(key, 0) & 1:
            self._index[key] = offset << 25 | shard << 1 | ok

    def _line(self, shard: int, offset: int) -> bytes:
        if self._remote:
            if self._newest and shard == len(self._shards):  # not full yet
                return line_at(self._newest.content, offset)
            return line_at(self._recent.read(self._shards[shard]), offset)
        fd = self._readers.get(shard)
        if fd is None:
            fd = self._readers[shard] = os.open(self._shards[shard], os.O_RDONLY)
        line, size = os.pread(fd, 4096, offset), 4096
        while b"\n" not in line:
            if len(line) < size:
                raise UserError(f"{self._shards[shard]} was truncated while it was in use")
            size *= 4
            line = os.pread(fd, size, offset)
        return line[: line.index(b"\n")]

    def _write(self, line: bytes) -> None:
        """Appends a line to the shard, whole or not at all.

        Raises:
          UserError: the disk is full, or fails.
        """
        done = 0
        try:
            while done < len(line):
                done += os.write(self._fd, line[done:])
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise UserError(
                f"{self._shards[-1]}: cannot be written ({error.strerror}); free some space, then "
                "the same command resumes the job"
            ) from error

    def _new_shard(self) -> None:
        path = self.path / _shard_name(len(self._shards))
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self._shards.append(path)
        self._size = self._in_shard = 0
        atomic.sync_directory(self.path)

    def _close_shard(self) -> None:
        """Ends the newest shard, which is synced: the next record begins another."""
        if self._newest and self._newest.begin_next():
            self._shards.append(self.path / _shard_name(len(self._shards)))
            self._size = self._in_shard = 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.jsonl"
