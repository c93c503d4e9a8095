"""Results of many runs: a typed record of each, in an append-only file."""
