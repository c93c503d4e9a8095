"""What a run's rows have in common with each other: copies, contradictions, classes.

Rows are seen once, while they are written; 24 bytes are kept of each.
"""

from __future__ import annotations

from array import array

import numpy as np

from distill.common.hashing import digest64
from distill.data.budget import label_of
from distill.data.cache_meta import Survey
from distill.data.examples import Example


class RowSurvey:
    """Counts of the rows of a run, from digests of their inputs and labels."""

    def __init__(self, label_source: str) -> None:
        """Starts without rows.

        Args:
          label_source: whose labels train: "gold" or "teacher".
        """
        self._source = label_source
        self._inputs, self._labels, self._test = array("Q"), array("Q"), array("Q")
        self._without_rationale = 0

    def add(self, split: str, row: Example) -> None:
        """Takes a row of "train", "validation" or "test" into account."""
        if split == "test":
            self._test.append(digest64(row.input))
            return
        self._inputs.append(digest64(row.input))
        self._labels.append(digest64(label_of(row, self._source)))
        self._without_rationale += row.rationale is None

    def counts(self) -> Survey:
        """What was found; "training" stands for training and validation rows together.

        Returns:
          test_inputs_in_training (test rows whose input is that of a training row),
          contradicting_rows (training rows whose input also stands with another label), classes
          (distinct labels of training rows), without_rationale (training rows).
        """
        inputs, labels, test = (
            np.array(digests, np.uint64) for digests in (self._inputs, self._labels, self._test)
        )
        classes, label_of_row = np.unique(labels, return_inverse=True)
        _, input_of_row = np.unique(inputs, return_inverse=True)
        pairs = np.unique(np.stack([input_of_row, label_of_row]), axis=1)
        labels_of_input = np.bincount(pairs[0])
        return {
            "test_inputs_in_training": int(np.isin(test, inputs).sum()),
            "contradicting_rows": int((labels_of_input[input_of_row] > 1).sum()),
            "classes": len(classes),
            "without_rationale": self._without_rationale,
        }
