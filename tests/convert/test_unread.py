"""Arrays that are read when they are used."""

from __future__ import annotations

import collections
import pathlib

import numpy as np
import pytest

from distill.convert import folders, huggingface, t5x_files
from distill.convert.orbax_arrays import OrbaxArrays
from distill.convert.unread import Unread, by_source, in_memory, stack

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "hf_loss"


def test_what_is_made_of_them_is_what_numpy_makes():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    whole = in_memory(array)
    made = {
        "layer": (whole[:, 2], array[:, 2]),
        "heads": (whole.reshape((2, -1, 2)), array.reshape(2, -1, 2)),
        "type": (whole.astype(np.dtype(np.float16)), array.astype(np.float16)),
        "stack": (stack([whole[:, i] for i in (2, 0)]), array[:, [2, 0]]),
        "both": (whole[:, 1].reshape((-1,)), array[:, 1].reshape(-1)),
    }
    for name, (unread, expected) in made.items():
        assert (unread.shape, unread.dtype) == (expected.shape, expected.dtype), name
        np.testing.assert_array_equal(np.asarray(unread), expected, err_msg=name)
    assert whole.ndim == 3 and whole.size == 24 and whole.nbytes == array.nbytes


def test_arrays_of_one_source_come_one_after_the_other():
    leaves = [Unread((), np.dtype(int), lambda: np.zeros(()), source) for source in "abcab"]
    assert [leaf.source for leaf in by_source(leaves, lambda leaf: leaf)] == list("aabbc")


@pytest.mark.parametrize("layout", t5x_files.LAYOUTS)
def test_stacked_layers_are_read_once(layout, tmp_path, monkeypatch):
    """Not once for each of the layers that are written."""
    resolved = huggingface.resolve_folder(GOLDEN, (), ("SCAN_LAYERS=True",))
    huggingface.hf_to_native(GOLDEN, resolved, tmp_path / "run", lambda line: None)
    reads, read_now = collections.Counter(), OrbaxArrays._read_now

    def count(self, name):
        reads[name] += 1
        return read_now(self, name)

    monkeypatch.setattr(OrbaxArrays, "_read_now", count)
    folders.native_to_t5x(tmp_path / "run", tmp_path / "t5x", layout)
    assert len(reads) > 20 and {reads[name] for name in reads if name != "step"} == {1}
