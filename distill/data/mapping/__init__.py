"""Rows of other shapes: which fields of a record are input, label and the rest."""
