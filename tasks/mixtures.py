"""The SeqIO tasks and mixtures that stock T5X trains on and evaluates, registered by name.

gin/engines/t5x_shared.gin calls both functions; `distill.engines.t5x.mixtures` does the work.
"""

from __future__ import annotations

from distill.config.data import DataSpec
from distill.config.weighting import Weighting
from distill.engines.t5x import mixtures


def mixture(spec: DataSpec, weighting: Weighting, use_cached: bool = False) -> str:
    """Registers what a run trains on; the name says settings, files and rates by digest.

    Args:
      spec: the data.
      weighting: the objective.
      use_cached: USE_CACHED. SeqIO's cache of the tasks is written if it is not there.

    Returns:
      The name of a SeqIO task of pairs, or of a mixture; its rows say which task they
      are of, and `feature_converter` understands them.

    Raises:
      UserError: what the data or the vocabulary complain of.
    """
    if mixtures.is_paired(spec, weighting):
        return mixtures.register_pairs(spec, use_cached)
    return mixtures.register_rates(spec, weighting, use_cached)


def label_task(spec: DataSpec, use_cached: bool = False) -> str:
    """The name of the task that is evaluated: input to label, scored by exact match."""
    return mixtures.register_tasks(spec, use_cached)["label"]
