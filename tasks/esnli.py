"""esnli: natural language inference with PaLM-540B rationales, split by premise."""

from __future__ import annotations

from distill.data import datasets
from distill.data.released import source

DATASET = datasets.register(source.nli("esnli"))
