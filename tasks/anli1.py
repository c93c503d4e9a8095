"""anli1: adversarial inference, round 1, with PaLM-540B rationales, split by premise."""

from __future__ import annotations

from distill.data import datasets
from distill.data.released import source

DATASET = datasets.register(source.nli("anli1"))
