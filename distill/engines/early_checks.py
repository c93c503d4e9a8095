"""What a run is refused for before an engine, and with it jax and TensorFlow, is imported."""

from __future__ import annotations

from etils import epath

from distill.common.disk import check_writable
from distill.config.resolve import Resolved
from distill.data import cache as caches
from distill.training import run_folder


def check_rows(resolved: Resolved, run_dir: epath.PathLike) -> caches.Prepared | None:
    """Checks the run folder, and then the rows of a run that is not in it yet.

    Args:
      resolved: a checked configuration.
      run_dir: the run folder.

    Returns:
      What was read, for the engine's `train`; None where the folder holds the run: it compares the
      data with those that the run was trained on, before it reads them.

    Raises:
      UserError: a folder that holds something else or cannot be written; see `caches.prepare`.
    """
    folder = epath.Path(run_dir)
    run_folder.check_run(folder, resolved.text)
    if not (folder / run_folder.RESULTS).exists():
        check_writable(folder, f"--run_dir={run_dir}")
    if (folder / run_folder.CONFIG).exists():
        return None
    return caches.prepare(resolved.run.data, resolved.run.student.vocab_size)
