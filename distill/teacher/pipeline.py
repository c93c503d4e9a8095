"""What `distill annotate` does with its flags."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from distill.data import examples
from distill.data.examples import Example, write_jsonl
from distill.errors import UserError
from distill.teacher import aggregate, annotate, batch_files, lint, prompts, sources
from distill.teacher.client import Client, check_url, read_key
from distill.teacher.export import check_released, write_released
from distill.teacher.filters import Filters
from distill.teacher.job_stats import CHARACTERS_PER_TOKEN
from distill.teacher.prices import price_of
from distill.teacher.samples import PendingRow, pending_rows
from distill.teacher.sampling import Digests, Sampling, key_of
from distill.teacher.store import Store
from distill.tickets import teacher as simulated

OPENAI = "https://api.openai.com/v1"


def run_annotate(options: argparse.Namespace) -> dict[str, object]:
    """Does what the flags say.

    Raises:
      UserError: flags that do not fit together, bad rows, or an endpoint that refuses.
    """
    if options.check:
        return _check(options)
    if not (options.prompt or options.model or options.base_url or _has_rows(options)):
        return _simulated(options)
    return _Pipeline(options).run()


def _has_rows(options: argparse.Namespace) -> bool:
    return bool(options.input or options.raw_dir or options.tfds)


def rows_of_options(options: argparse.Namespace) -> Sequence[Example]:
    """The rows that the flags name."""
    given_flags = [n for n in ("input", "raw_dir", "tfds") if getattr(options, n)]
    if len(given_flags) > 1:
        raise UserError(f"give one of --{' and --'.join(given_flags)}, not both")
    if options.input:
        return sources.from_file(options.input, options.split)
    if options.raw_dir:
        if not options.dataset:
            raise UserError("--raw_dir needs --dataset (and --split)")
        return sources.from_released(options.raw_dir, options.dataset, options.split)
    if options.tfds:
        fields = sources.mapping_of(options.field)
        return sources.from_tfds(options.tfds, options.split, fields, options.tfds_data_dir)
    return sources.from_tickets(options.policy, options.rows, options.seed, options.split)


def _check(options: argparse.Namespace) -> dict[str, object]:
    rows = rows_of_options(options) if _has_rows(options) else ()
    report = lint.lint_prompt(prompts.load_prompt(options.check), rows)
    if report["problems"]:
        raise UserError(f"prompt {options.check}: " + "; ".join(report["problems"]))
    return {"mode": "check"} | report


def _simulated(options: argparse.Namespace) -> dict[str, object]:
    """Tickets with what the simulated teacher says, made in this process."""
    if not options.output:
        raise UserError("give the JSONL file to write with --output")
    tickets = sources.from_tickets(options.policy, options.rows, options.seed, options.split)
    rows = simulated.annotate(tickets, options.policy, options.teacher_accuracy, options.seed)
    write_jsonl(options.output, rows)
    return {
        "mode": "simulated",
        "output": options.output,
        "rows": len(rows),
        "teacher_accuracy": examples.teacher_accuracy(rows),
    }


class _Pipeline:
    """Rows, prompt and model of one command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        name = options.prompt or options.dataset or ("" if _has_rows(options) else "tickets")
        if not name:
            raise UserError(
                f"give a prompt with --prompt: {', '.join(prompts.names())}, or a file of yours"
            )
        if not options.model:
            raise UserError("give the model's name with --model, as the endpoint calls it")
        if not (options.output or options.store or options.dry_run):
            raise UserError("give the JSONL file to write with --output (or a --store)")
        for flag, low in (("rationales", 1), ("timeout", 1e-3), ("backoff_seconds", 0)):
            if not getattr(options, flag) >= low:
                raise UserError(f"got --{flag} {getattr(options, flag)}, expected at least {low}")
        self.prompt = prompts.load_prompt(name)
        several = options.samples > 1
        temperature = options.temperature
        if temperature is None:
            temperature = 0.7 if several else 0.0
        if several and temperature == 0:
            raise UserError("several samples at temperature 0 are all the same: raise it")
        self.sampling = Sampling(
            model=options.model,
            api=options.api,
            temperature=temperature,
            top_p=options.top_p,
            max_tokens=self.prompt.max_tokens if options.max_tokens is None else options.max_tokens,
            stops=() if options.no_stop else self.prompt.stops[:4],  # OpenAI takes four
            seed=options.sample_seed,
            extra=options.extra,
        )
        self.settings = annotate.Settings(
            backoff_base=options.backoff_seconds,
            **{
                name: getattr(options, name)
                for name in (
                    "samples", "concurrency", "requests_per_minute", "tokens_per_minute",
                    "max_attempts", "max_rows", "max_cost", "max_failures", "retry_failed",
                    "progress_seconds",
                )
            },
        )  # fmt: skip
        self.filters = Filters(
            options.drop_unparsed, options.min_agreement, options.gold_only,
            options.min_words, options.max_words, options.drop_leaks,
        )  # fmt: skip
        self.base_url = check_url(options.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self.price = price_of(options.model, options.prices)
        self.digests = Digests(self.prompt, self.sampling)
        self.rows = rows_of_options(options)
        if not len(self.rows):
            raise UserError("there are no rows to annotate")
        self.folder = options.store
        if not self.folder and options.output:
            output = epath.Path(options.output)
            self.folder = output.parent / f"{output.stem}.store"

    def run(self) -> dict[str, object]:
        options = self.options
        self._check_rows()
        if options.dry_run:
            return self._dry_run()
        folder = self.folder
        if options.batch_write or options.batch_read or options.reparse:
            if not options.batch_write and not epath.Path(folder).exists():
                raise UserError(f"there is no store {folder}; name it with --store")
            with Store(folder) as store:
                return self._offline(store)
        # All that can be refused is refused before a store is made.
        key = read_key(options.key_env, self.base_url)
        client = Client(self.base_url, key, options.timeout, options.concurrency, options.any_model)
        annotate.Job.check_price(self.settings, self.price, options.model)
        with Store(folder) as store:
            store.describe(self.digests.head, self.digests.about)
            job = annotate.Job(
                self.rows, self.prompt, self.sampling, self.settings, store, client, self.price
            )
            stats = annotate.run_job(job)
            if stats.failed and not stats.answered and not self._stored(store, (True,)):
                reasons = ", ".join(f"{n:,} {reason}" for reason, n in stats.reasons.items())
                raise UserError(
                    f"no row was answered: {reasons}, the last with {job.last_failure}; "
                    "--retry_failed asks for them again"
                )
            return self._aggregate(store) | stats.spent() | {"stopped": job.stopped}

    def _check_rows(self) -> None:
        """Refuses, before anything is asked, rows that cannot be asked or written.

        Raises:
          UserError: a row that the prompt, the released layout or the teacher's row cannot hold.
        """
        options = self.options
        if self.prompt.input_pattern:
            for row in self.rows:
                self.prompt.question(row)
        if options.released_dir:
            check_released(options.dataset or self.prompt.name, options.split, self.rows)
        if options.teacher_row and all(row.label is None for row in self.rows):
            raise UserError("--teacher_row needs rows with gold labels")

    def _offline(self, store: Store) -> dict[str, object]:
        options = self.options
        if options.reparse:
            self._check_answered(store)
            return self._aggregate(store)
        if options.batch_write:
            pending = self._within_bounds(self._missing(store, options.retry_failed))
            store.describe(self.digests.head, self.digests.about)
            written = batch_files.write_requests(
                options.batch_write, pending, self.prompt, self.sampling
            )
            return {"mode": "batch_write"} | written
        # What a batch answered is taken, though the row may have failed elsewhere.
        pending = self._missing(store, retry_failed=True)
        read = batch_files.read_results(
            options.batch_read, pending, self.prompt, self.sampling, store, options.any_model
        )
        store.sync()
        return self._aggregate(store) | {"batch": read}

    def _missing(self, store: Store | None, retry_failed: bool) -> Iterator[PendingRow | None]:
        samples = self.options.samples
        return pending_rows(self.rows, self.digests, samples, store, retry_failed)

    def _within_bounds(self, missing: Iterable[PendingRow | None]) -> Iterator[PendingRow]:
        """The rows that --max_rows and --max_cost allow to ask for, by their longest answers."""
        settings, cost = self.settings, 0.0
        annotate.Job.check_price(settings, self.price, self.options.model)
        tasks = (task for task in missing if task)
        for task in itertools.islice(tasks, settings.max_rows):
            tokens_in, tokens_out = self._estimate([task])
            cost += self.price.of(tokens_in, tokens_out) if self.price else 0.0
            if settings.max_cost is not None and cost > settings.max_cost:
                return
            yield task

    def _check_answered(self, store: Store) -> None:
        """Refuses to write again from a store that holds no answer to what is asked.

        Raises:
          UserError: it says how this prompt and these settings differ from the store's.
        """
        if self._stored(store, (True, False)):
            return
        differing = [
            {name for name in current if current[name] != stored.get(name)}
            for stored in store.described()
            for current in [self.digests.about]
        ]
        hint = "; these rows are none of its rows"
        if differing and min(differing, key=len):
            closest = min(differing, key=len)
            hint = f"; the closest that it was asked differs in: {', '.join(sorted(closest))}"
        raise UserError(f"{store.path} has no answer to this prompt, model and settings{hint}")

    def _stored(self, store: Store, states: tuple[bool, ...]) -> bool:
        """Whether the first sample of any row is stored, in one of these states."""
        keys = (key_of(row.id, self.digests.of(row), 0) for row in self.rows)
        return any(store.state(key) in states for key in keys)

    def _estimate(self, tasks: Sequence[PendingRow]) -> tuple[int, int]:
        """Tokens that the requests for these rows read, and write at most."""
        prefix = len(self.prompt.prefix(self.sampling.api))
        characters = sum(prefix + len(self.prompt.question(task.row)) for task in tasks)
        written = self.sampling.longest * sum(len(task.samples) for task in tasks)
        return round(characters / CHARACTERS_PER_TOKEN), written

    def _dry_run(self) -> dict[str, object]:
        """The first prompt and the estimate of what is left to ask; no endpoint, no new store."""
        options = self.options
        exists = self.folder and epath.Path(self.folder).exists()
        with Store(self.folder, read_only=True) if exists else contextlib.nullcontext() as store:
            tasks = list(filter(None, self._missing(store, options.retry_failed)))
        tasks = tasks[: options.max_rows]
        row = tasks[0].row if tasks else self.rows[0]
        tokens_in, tokens_out = self._estimate(tasks)
        body = self.sampling.body(self.prompt, row, options.samples, 0)
        prompt_text = body.get("prompt") or "\n".join(
            f"[{message['role']}]\n{message['content']}" for message in body["messages"]
        )
        return {
            "mode": "dry_run",
            "first_prompt": prompt_text,
            "request": {n: v for n, v in body.items() if n not in ("prompt", "messages")},
            "rows": len(self.rows),
            "rows_to_ask": len(tasks),
            "tokens_in": tokens_in,
            "tokens_out_at_most": tokens_out,
            "cost_at_most": self.price.of(tokens_in, tokens_out) if self.price else None,
        }

    def _aggregate(self, store: Store) -> dict[str, object]:
        """Reads the answers, writes rows and the teacher's accuracy."""
        options, totals = self.options, aggregate.Totals()
        aggregated = aggregate.aggregate(
            self.rows, self.prompt, self.digests, options.samples, store, totals
        )
        released: list[tuple[Example, str]] = []
        keep = (lambda *kept: released.append(kept)) if options.released_dir else None
        written: dict[str, object] = {"written": 0, "dropped": {}, "dropped_file": None}
        if options.output:
            written = aggregate.write_annotated(
                options.output, aggregated, self.filters, self.prompt.same, options.rationales, keep
            )
        else:
            for entry in aggregated:
                same = self.prompt.same
                passing = self.filters.passing(entry.readings, entry.agreement, same)
                if keep and passing:
                    keep(*passing[0])
        if options.released_dir:
            dataset = options.dataset or self.prompt.name
            write_released(options.released_dir, dataset, options.split, released)
        teacher = self._teacher(totals)
        return {
            "mode": "annotate",
            "output": options.output,
            "store": str(store.path),
            "rows": totals.rows,
            "answered": totals.answered,
            "failed": sum(totals.failed.values()),
            "pending": totals.pending,
            "failed_by_reason": dict(sorted(totals.failed.items())),
            "parsed": totals.parsed,
            "cut_off": totals.cut_off,
            "parse_failures": dict(sorted(totals.failures.items())),
            **written,
            "stored_tokens": {"in": totals.tokens_in, "out": totals.tokens_out},
            "teacher": teacher,
        }

    def _teacher(self, totals: aggregate.Totals) -> dict[str, object] | None:
        row = aggregate.teacher_row(totals, self.price)
        if self.options.teacher_row:
            if row is None:
                raise UserError("--teacher_row needs rows with gold labels that have ended")
            options = self.options
            # The names of a run's results, so that a table takes both.
            written = {
                "method": "few_shot_teacher",
                "dataset": options.dataset or options.tfds or options.input or "tickets",
                "split": options.split,
                "model": self.sampling.model,
                "prompt": self.prompt.name,
                "samples": options.samples,
                "n_test": row["n"],
            } | {name: value for name, value in row.items() if name != "n"}
            path = epath.Path(options.teacher_row)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(written, indent=1) + "\n")
        return row
