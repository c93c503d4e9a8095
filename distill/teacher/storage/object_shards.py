"""Shards of a store on an object store, which can only be written and read whole."""

from __future__ import annotations

from etils import epath

from distill.common.object_lock import ConditionalStore
from distill.errors import UserError

_OBJECTS = 16  # kept in memory; answers of neighboring rows lie in neighboring objects


def line_at(content: bytes | bytearray, offset: int) -> bytes:
    """The line of a shard that begins there."""
    return bytes(content[offset : content.index(b"\n", offset)])


class NewestShard:
    """The shard that grows: each sync writes its object again."""

    def __init__(self, folder: epath.Path) -> None:
        """Names the folder of the store."""
        self._folder, self._objects = folder, ConditionalStore(folder)
        self.content = bytearray()
        self._generation: bytes | None = None  # of its object; None before it is written

    def write(self, name: str) -> None:
        """Writes the object, unless another process wrote one of this name.

        Raises:
          UserError: one did; the store does not answer.
        """
        content = bytes(self.content)
        if self._generation is None:
            generation = self._objects.create(name, content)
        else:
            generation = self._objects.write(name, content, self._generation)
        if generation is None:
            raise UserError(f"another process wrote {self._folder / name}: this process stops")
        self._generation = generation

    def begin_next(self) -> bool:
        """Begins another shard; False if nothing of this one was written."""
        if self._generation is None:
            return False
        self.content, self._generation = bytearray(), None
        return True


class RecentObjects:
    """The objects that were read last, each of which is read once."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def read(self, path: epath.Path) -> bytes:
        """The content of a shard that does not change any more."""
        content = self._contents.pop(path.name, None) or path.read_bytes()
        self._contents[path.name] = content
        if len(self._contents) > _OBJECTS:
            del self._contents[next(iter(self._contents))]
        return content
