"""A lock that is an object in a bucket: created only if absent, and renewed by its holder.

    {"pid", "host", "started", ..., "owner": a random name, "renewals": a count}

Each write of an object gives it a new generation, and a write can demand the generation that it
replaces. The holder renews the object every RENEW_SECONDS. Another process takes it over if the
holder ran on the same machine and has ended, or if the generation has not changed for
LEASE_SECONDS by the clock of the process that waits, so that clocks are never compared. A holder
that lost the lock this way finds another generation when it renews, and stops.

The requests go through TensorStore: epath has no conditional writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from etils import epath

from distill.common.atomic import is_local
from distill.common.holders import describe_this_process, is_running, name_holder
from distill.common.progress import Stage
from distill.common.safe_points import safe_point
from distill.errors import UserError

if TYPE_CHECKING:
    import tensorstore

RENEW_SECONDS = 20.0
LEASE_SECONDS = 120.0
POLL_SECONDS = 2.0
# TensorStore repeats a request that failed with 429 or 503; these limit it to about two minutes.
RETRIES = {"max_retries": 8, "initial_delay": "1s", "max_delay": "32s"}
_ABSENT = b"\x02"  # TensorStore's generation of an object that is not there


def kvstore_spec(folder: epath.PathLike) -> dict[str, str]:
    """TensorStore's spec of a folder, local or gs://."""
    text = os.fspath(folder).rstrip("/")
    if text.startswith("gs://"):
        bucket, _, inside = text.removeprefix("gs://").partition("/")
        return {"driver": "gcs", "bucket": bucket, "path": f"{inside}/" if inside else ""}
    return {"driver": "file", "path": f"{text}/"}


class ConditionalStore:
    """Objects of a folder, written under a condition on what they replace."""

    def __init__(self, folder: epath.PathLike) -> None:
        """Names the folder, local or gs://."""
        import tensorstore as ts

        self._folder = epath.Path(folder)
        context = ts.Context({"gcs_request_retries": RETRIES})
        with self._named():
            self._store: tensorstore.KvStore = ts.KvStore.open(
                kvstore_spec(folder), context=context
            ).result()

    def read(self, name: str) -> tuple[bytes, bytes]:
        """Content and generation of an object; the content of an absent one is empty."""
        with self._named(name):
            found = self._store.read(name.encode()).result()
        return bytes(found.value), bytes(found.stamp.generation)

    def create(self, name: str, content: bytes) -> bytes | None:
        """Writes an object that is not there; None if it is."""
        return self.write(name, content, _ABSENT)

    def write(self, name: str, content: bytes, generation: bytes) -> bytes | None:
        """Replaces an object.

        Args:
          name: of the object.
          content: new, and different from that of all other writers.
          generation: that the object must have.

        Returns:
          Its new generation; None if it had another one, and nothing was written.
        """
        with self._named(name):
            stamp = self._store.write(name.encode(), content, if_equal=generation).result()
        if stamp.generation:
            return bytes(stamp.generation)
        # An answer that was lost is asked for again, and then the first write stands in the way.
        found, now = self.read(name)
        return now if found == content else None

    def delete(self, name: str, generation: bytes) -> None:
        """Deletes an object if it still has this generation."""
        with self._named(name):
            self._store.write(name.encode(), None, if_equal=generation).result()

    @contextlib.contextmanager
    def _named(self, name: str = "") -> Any:
        try:
            yield
        except (ValueError, OSError, NotImplementedError, RuntimeError) as error:
            place = self._folder / name if name else self._folder
            raise UserError(
                f"{place} cannot be read or written: {str(error).splitlines()[0][:200]}"
            ) from error


class ObjectLock:
    """The lock; `take` it, then ask `check` before a write that another holder must not meet."""

    def __init__(self, path: epath.PathLike, fix: str) -> None:
        """Names the object.

        Args:
          path: of the object, in a bucket or local; its folder is what the messages name.
          fix: what to do while another process holds the lock, such as "wait for it".
        """
        self._path, self._fix = epath.Path(path), fix
        self._owner, self._renewals = uuid.uuid4().hex, 0
        self._described = describe_this_process()
        self._generation = b""
        self._is_lost, self._renewed = False, 0.0
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._store: ConditionalStore | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process took the lock and has not let it go."""
        return self._thread is not None

    def take(self) -> None:
        """Takes the lock; waits LEASE_SECONDS at most for a holder that may have died.

        Raises:
          UserError: another process holds it; names process and host.
        """
        if is_local(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._store = store = ConditionalStore(self._path.parent)
        generation = store.create(self._path.name, self._content())
        while generation is None:
            held, found = store.read(self._path.name)
            if held:
                self._outlive(store, _parse(held), found)
            # Its holder let it go, or has ended: of all who wait, one has the right generation.
            generation = store.write(self._path.name, self._content(), found)
        self._generation, self._renewed = generation, time.monotonic()
        self._thread = threading.Thread(target=self._keep_renewing, args=(store,), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Makes sure that no other process has taken the lock over; costs nothing most times.

        Raises:
          UserError: one has.
        """
        if self._store is not None and time.monotonic() - self._renewed > LEASE_SECONDS / 2:
            self._renew(self._store)  # the process, or its thread, stood still
        if self._is_lost:
            raise UserError(
                f"another process took over {self._path}, because this process did not renew it "
                f"for {LEASE_SECONDS:.0f} s: this process stops"
            )

    def release(self) -> None:
        """Lets the lock go."""
        thread, self._thread = self._thread, None
        if thread is None or self._store is None:
            return
        self._ended.set()
        thread.join()
        if not self._is_lost:
            with contextlib.suppress(UserError):  # it ends by itself, after LEASE_SECONDS
                self._store.delete(self._path.name, self._generation)

    def _outlive(self, store: ConditionalStore, holder: dict[str, Any], generation: bytes) -> None:
        """Returns when a holder has ended.

        Raises:
          UserError: it renews its lock.
        """
        runs, who = is_running(holder), name_holder(holder)
        in_use = UserError(f"{self._path.parent} is in use by {who}: {self._fix}")
        if runs:
            raise in_use
        if runs is False:
            return
        began = time.monotonic()
        waiting = f"waiting up to {LEASE_SECONDS:.0f} s to see whether {who} still uses it"
        with Stage(f"{self._path.parent} is locked: {waiting}"):
            while time.monotonic() - began < LEASE_SECONDS:
                time.sleep(POLL_SECONDS)
                safe_point()
                held, now = store.read(self._path.name)
                if not held:
                    return
                if now != generation:
                    raise in_use

    def _keep_renewing(self, store: ConditionalStore) -> None:
        while not self._ended.wait(RENEW_SECONDS) and not self._is_lost:
            with contextlib.suppress(UserError):  # the store does not answer, nor to those who wait
                self._renew(store)

    def _renew(self, store: ConditionalStore) -> None:
        with self._guard:
            self._renewals += 1
            began = time.monotonic()
            generation = store.write(self._path.name, self._content(), self._generation)
            if generation is None:
                # Either another holder, or an earlier renewal whose answer was lost.
                held, generation = store.read(self._path.name)
                if _parse(held).get("owner") != self._owner:
                    self._is_lost = True
                    return
            self._generation, self._renewed = generation, began

    def _content(self) -> bytes:
        own = {**self._described, "owner": self._owner, "renewals": self._renewals}
        return json.dumps(own).encode() + b"\n"


def _parse(content: bytes) -> dict[str, Any]:
    try:
        held = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}
