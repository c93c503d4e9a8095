"""The datasets, one short registration file each; importing this registers them all."""

from tasks import anli1, cqa, esnli, jsonl, svamp, tickets

__all__ = ["anli1", "cqa", "esnli", "jsonl", "svamp", "tickets"]

REGISTERS_DISTILL_DATASETS = True  # tells this package from another one of the same name
