"""The runs of a sweep: every combination, resolved and checked before the first one starts."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from distill.common.digests import sha256_text
from distill.common.phrases import number_of
from distill.common.progress import Progress
from distill.common.text_files import check_file
from distill.config import fields, files, stored
from distill.config.data import DataSpec
from distill.config.resolve import Resolved, import_tasks, read_macros, resolve
from distill.config.run import RunConfig
from distill.convert.sizes import adopt_sizes
from distill.data import datasets
from distill.data.vocabulary_size import check_size_before_rows
from distill.errors import UserError, alike, check_all
from distill.results.record import Record, Value
from distill.sweep.axes import Choice, is_same
from distill.sweep.file import Sweep
from distill.training.run_folder import comparable_macros

_DIGITS = 8  # of the digest, in an id
_LONGEST = 100  # characters of the readable part of an id
_MOST_TOLD = 5  # errors of runs in one message

Combination = dict[str, Choice]  # by axis


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a sweep that has passed every check.

    Attributes:
      id: names its folder and its records.
      axes: value of each axis, in the order of the file.
      seed: SEED.
      gin_files: names or paths, in order.
      overrides: `NAME=value` texts.
      resolved: its configuration.
      digest: sha256 of the configuration; equal for runs that train the same student.
    """

    id: str
    axes: Mapping[str, Value]
    seed: int
    gin_files: tuple[str, ...]
    overrides: tuple[str, ...]
    resolved: Resolved = dataclasses.field(repr=False)
    digest: str

    @property
    def title(self) -> str:
        """What messages call it: "finetune, labels 250, seed 11"."""
        return describe(self.axes, self.seed)

    def as_recorded(self, twin: Record) -> Record:
        """The record of this run, from that of a run with the same configuration."""
        return dataclasses.replace(
            twin,
            run=self.id,
            axes=dict(self.axes),
            gin_files=self.gin_files,
            overrides=self.overrides,
        )


def describe(axes: Mapping[str, Value], seed: int) -> str:
    """The values of a run for people; a text stands for itself, other values after their axis."""
    parts = [value if isinstance(value, str) else f"{name} {value}" for name, value in axes.items()]
    return ", ".join([*parts, f"seed {seed}"])


def combinations(sweep: Sweep) -> list[tuple[Combination, int]]:
    """Every combination of axis values with every seed that no rule excludes; seeds vary fastest.

    Raises:
      UserError: a rule that excludes nothing; rules that exclude everything.
    """
    zipped = {name: group for group in sweep.zips for name in group}
    units: list[list[Combination]] = []
    for axis in sweep.axes:
        group = zipped.get(axis.name, (axis.name,))
        if axis.name == next(each.name for each in sweep.axes if each.name in group):
            columns = [sweep.axis(name).choices for name in group]
            units.append([dict(zip(group, row, strict=True)) for row in zip(*columns, strict=True)])
    order = [axis.name for axis in sweep.axes]
    kept, used = [], [False] * len(sweep.exclude)
    for parts in itertools.product(*units):
        joined = {name: choice for part in parts for name, choice in part.items()}
        combination = {name: joined[name] for name in order}
        for seed in sweep.seeds:
            matches = [_matches(rule, combination, seed) for rule in sweep.exclude]
            used = [before or now for before, now in zip(used, matches, strict=True)]
            if not any(matches):
                kept.append((combination, seed))
    if False in used:
        raise UserError(
            f"{sweep.path}: [[exclude]] number {used.index(False) + 1} excludes no combination"
        )
    if not kept:
        raise UserError(f"{sweep.path}: [[exclude]] excludes every combination")
    return kept


def _matches(rule: Mapping[str, tuple[Value, ...]], combination: Combination, seed: int) -> bool:
    return all(
        any(is_same(seed if name == "seed" else combination[name].value, each) for each in values)
        for name, values in rule.items()
    )


def make_plan(sweep: Sweep, overrides: Sequence[str] = ()) -> list[Run]:
    """Resolves and checks all runs.

    Args:
      sweep: the file.
      overrides: `NAME=value` texts of the command line, which override the file's [macros].

    Returns:
      The runs, in the order of `combinations`.

    Raises:
      UserError: a gin file or macro that does not exist, by table and key; what is wrong with the
        configuration of some runs, once for each different error; two runs of one id; an override
        of a macro that an axis sets.
    """
    _check_overrides(sweep, overrides)
    found = combinations(sweep)
    _check_gin_files(sweep)
    _check_macros(sweep)
    import_tasks()
    runs: list[Run] = []
    errors: dict[str, list[str]] = {}
    with Progress(len(found), "checking the configurations", unit="runs") as bar:
        for combination, seed in found:
            axes = {name: choice.value for name, choice in combination.items()}
            try:
                runs.append(_resolve(sweep, combination, seed, overrides))
            except UserError as error:
                errors.setdefault(str(error), []).append(describe(axes, seed))
            bar.update()
    if errors:
        raise UserError(_describe_errors(sweep.path, errors, len(found)))
    _check_ids(sweep.path, runs)
    return runs


def equal_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs with one configuration: each group of at least two, in their order."""
    return [group for group in _by_digest(runs) if len(group) > 1]


def distinct(runs: Sequence[Run]) -> list[Run]:
    """The first run of each configuration, in their order."""
    return [group[0] for group in _by_digest(runs)]


def _by_digest(runs: Sequence[Run]) -> Iterable[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.digest, []).append(run)
    return groups.values()


def _resolve(sweep: Sweep, combination: Combination, seed: int, given: Sequence[str] = ()) -> Run:
    gin_files = (*sweep.gin_files, *(n for c in combination.values() for n in c.gin_files))
    given_names = {text.partition("=")[0] for text in given}
    macros = {name: value for name, value in sweep.macros.items() if name not in given_names}
    for choice in combination.values():
        macros |= choice.macros
    overrides = tuple(f"{name}={value!r}" for name, value in (macros | {"SEED": seed}).items())
    overrides += tuple(given)
    resolved = resolve(gin_files, overrides, None, adopt_sizes)
    datasets.check_settings(resolved.run.data)
    axes = {name: choice.value for name, choice in combination.items()}
    digest = config_digest(resolved)
    return Run(
        run_id(combination, seed, digest), axes, seed, gin_files, overrides, resolved, digest
    )


def config_digest(resolved: Resolved) -> str:
    """Hex sha256 of a configuration: macros but where the data lie, and gin bindings.

    Macros that have their default are left out, so that a later version, which may have further
    ones, gives a run the same digest.
    """
    macros = comparable_macros(stored.load_stored(resolved.text.encode(), "the configuration"))
    for name, default in fields.defaults().items():
        if name in macros and macros[name] == default:
            del macros[name]
    content = [
        resolved.engine,
        macros,
        sorted(resolved.bindings.items()),
        sorted(resolved.binding_files.values()),
    ]
    return sha256_text(json.dumps(content, sort_keys=True))


def run_id(combination: Combination, seed: int, digest: str) -> str:
    """The id of a run: its values in the alphabetical order of their axes, seed and digits.

    Args:
      combination: a choice by axis; the order of the axes does not matter.
      seed: of the run.
      digest: of its configuration.
    """
    parts = []
    for name in sorted(combination):
        value = combination[name].value
        parts.append(value if isinstance(value, str) else f"{name}={value}")
    texts = [re.sub(r"[^A-Za-z0-9_.=+]+", "-", part).strip("-.")[:40] for part in parts]
    readable = "-".join(text for text in texts if text)[:_LONGEST].strip("-")
    return "-".join(filter(None, (readable, f"seed{seed}", digest[:_DIGITS])))


def _check_overrides(sweep: Sweep, overrides: Sequence[str]) -> None:
    for text in overrides:
        name = text.partition("=")[0]
        for axis in sweep.axes:
            if any(name in choice.macros for choice in axis.choices):
                raise UserError(
                    f"{sweep.path}: [axes.{axis.name}] sets {name}, and so does "
                    f"--{name.lower()}; expected only one of them: edit the file, or leave out the "
                    "flag"
                )


def _check_gin_files(sweep: Sweep) -> None:
    for name in sweep.gin_files:
        files.resolve_path(name, f"{sweep.path}: gin_files")
    for axis in sweep.axes:
        for choice in axis.choices:
            place = f"{sweep.path}: [axes.{axis.name}.settings] {choice.value}"
            for name in choice.gin_files:
                files.resolve_path(name, place)


def _check_macros(sweep: Sweep) -> None:
    """Refuses a macro that no gin file of the sweep declares."""
    choices = [(axis, choice) for axis in sweep.axes for choice in axis.choices]
    settings = [(f"{sweep.path}: [macros]", name) for name in sweep.macros]
    settings += [
        (f"{sweep.path}: [axes.{axis.name}]", name)
        for axis, choice in choices
        for name in choice.macros
    ]
    groups = dict.fromkeys([(), *(choice.gin_files for _, choice in choices)])
    read = [read_macros((*sweep.gin_files, *group))[0] for group in groups]
    known = {name for each in read for name in each.history}
    for place, name in settings:
        if name not in known:
            near = alike(name, known)
            closest = f"closest: {', '.join(near)}" if near else "`distill config show` lists all"
            raise UserError(f"{place} sets {name}, which no gin file declares; {closest}")


def check_data(path: str, runs: Sequence[Run]) -> None:
    """Refuses runs whose data are not there or too few, or whose VOCAB_SIZE is too small.

    It reads no rows: what only the rows tell, training refuses.

    Args:
      path: of the sweep file.
      runs: those that will be trained.

    Raises:
      UserError: names all missing files; see `check_budget` and `check_size`.
    """
    needed: dict[str, None] = {}
    different: dict[str, RunConfig] = {}  # by what a vocabulary is made from
    largest: dict[str, DataSpec] = {}  # the largest NUM_LABELS of each data
    try:
        for config in (run.resolved.run for run in runs):
            spec = config.data
            same = dataclasses.replace(spec, num_labels=0, label_fraction=1.0, data_seed=0)
            different[f"{same} {config.student.vocab_size}"] = config
            most = largest.setdefault(str(same), spec)
            largest[str(same)] = max(most, spec, key=lambda each: each.num_labels)
            names = [*datasets.get(spec.dataset).files(spec)]
            names += [spec.vocabulary_path] if spec.vocabulary == "sentencepiece" else []
            needed |= dict.fromkeys(map(str, names))
        check_all(functools.partial(check_file, epath.Path(name)) for name in needed)
        for spec in largest.values():
            datasets.check_budget(spec)
        for config in different.values():
            check_size_before_rows(config.data, config.student.vocab_size)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _describe_errors(path: str, errors: Mapping[str, list[str]], count: int) -> str:
    told = []
    for message, titles in list(errors.items())[:_MOST_TOLD]:
        if len(titles) == count:
            where = "every run"
        else:
            more = f" and {number_of(len(titles) - 1, 'other run')}" if len(titles) > 1 else ""
            where = f"the run {titles[0]}{more}"
        told.append(f"{where}: {message}")
    if len(errors) > _MOST_TOLD:
        told.append(f"{number_of(len(errors) - _MOST_TOLD, 'more error')}")
    return f"{path}: {'; also: '.join(told)}"


def _check_ids(path: str, runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        if run.id in seen:
            raise UserError(
                f"{path}: the runs {seen[run.id].title!r} and {run.title!r} have one configuration "
                "and one id: give their axis values names that differ in letters or digits"
            )
        seen[run.id] = run
