"""Counts of what happened to the rows, and the line that reports them."""
