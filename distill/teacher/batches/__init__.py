"""Batches that a provider runs: submitted, awaited, and read into the store."""
