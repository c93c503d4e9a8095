"""anli1: adversarial inference, round 1, with PaLM-540B rationales, split by premise."""

from __future__ import annotations

from distill.data import datasets
from tasks import released_files

DATASET = datasets.register(released_files.nli("anli1"))
