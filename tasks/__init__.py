"""The datasets, one short registration file each; importing this registers them all."""

from tasks import esnli, jsonl, returns

__all__ = ["esnli", "jsonl", "returns"]
