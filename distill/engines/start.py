"""What a new run of either engine starts from (INIT_FROM, CONTINUE_FROM): checked and recorded."""

from __future__ import annotations

import dataclasses

from etils import epath

from distill.common.progress import Say, Stage
from distill.config.run import RunConfig
from distill.convert import initial, sources
from distill.convert.sources import Source
from distill.errors import UserError
from distill.huggingface import tokenizer
from distill.training import assets as run_assets
from distill.training import provenance
from distill.training.assets import Assets
from distill.training.records import InitialCheckpoint
from distill.training.run_folder import RUN
from distill.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class Start:
    """The checkpoint that a new run starts from.

    Attributes:
      source: the checkpoint.
      config: the run.
      described: what run.json records of it.
    """

    source: Source
    config: RunConfig
    described: InitialCheckpoint

    def __call__(self, state: TrainState) -> TrainState:
        """The state to begin with, made from the initial one, which is deleted.

        Raises:
          UserError: see `initial.start_params` and `initial.continued_state`.
        """
        if self.source.macro == "CONTINUE_FROM":
            return initial.continued_state(self.source, self.config, state)
        params = initial.start_params(self.source, self.config.student, state.params)
        return TrainState(state.step, params, state.opt_state, state.dropout_key)


def find_start(
    config: RunConfig, folder: epath.Path, assets: Assets, is_new: bool, say: Say
) -> Start | None:
    """The checkpoint that a run starts from, once everything but its arrays has been checked.

    Args:
      config: the run.
      folder: its folder, which need not be there.
      assets: its vocabulary.
      is_new: whether it has no checkpoint of its own; else nothing outside of it is read.
      say: takes a line about what could not be checked.

    Returns:
      None for a run that resumes, or starts from random parameters.

    Raises:
      UserError: no checkpoint there; another size or vocabulary; it has changed since the run
        was started, and the run has no checkpoint of its own yet.
    """
    macro = "INIT_FROM" if config.init_from else "CONTINUE_FROM"
    path = config.init_from or config.continue_from
    if not path or not is_new:
        return None
    source = sources.find_source(macro, path)
    initial.check_source(source, config)
    _check_vocabulary(source, config, assets, say)
    with Stage(f"hashing the files of {path}"):
        digest = sources.digest(source)
    before = provenance.read_initial(folder)
    if before is not None and before["digest"] != digest:
        raise UserError(
            f"{folder} was started from {path}, whose files have changed since (digest "
            f"{before['digest'][:12]} in {folder / RUN}, {digest[:12]} now), and has no checkpoint "
            "of its own yet: restore the files, delete the run folder, or choose another --run_dir"
        )
    described: InitialCheckpoint = {
        "macro": macro,
        "path": path,
        "kind": source.kind,
        "digest": digest,
        "step": initial.step_of(source),
    }
    return Start(source, config, described)


def _check_vocabulary(source: Source, config: RunConfig, assets: Assets, say: Say) -> None:
    """Compares the vocabulary of the data with the checkpoint's, where that says what it is."""
    if source.kind == "hf":
        line = tokenizer.check_vocabulary(
            source.folder, assets.kind, assets.vocabulary(), config.data.vocabulary_path
        )
        if line is not None:
            say(line)
    elif source.run_dir is not None:
        theirs = run_assets.read(source.run_dir)
        if (theirs.kind, theirs.content()) != (assets.kind, assets.content()):
            given = assets.path or f"VOCABULARY = {assets.kind!r}"
            raise UserError(
                f"got {source}, which was trained with another vocabulary "
                f"({source.run_dir / run_assets.VOCABULARY}) than {given} gives: the parameters "
                "fit only their own vocabulary"
            )
