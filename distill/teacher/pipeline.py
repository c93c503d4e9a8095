"""What `distill annotate` does with its flags."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from etils import epath

from distill.common.disk import disk_errors
from distill.common.own_files import writing_own
from distill.common.paths import is_bucket, nearest_folder
from distill.common.progress import to_stderr
from distill.data.examples import Example
from distill.errors import CheckFailed, UserError
from distill.teacher import annotate, batch_files, prompts, sources
from distill.teacher.batches.job import BatchJob, run_batch_job
from distill.teacher.batches.ledger import Ledger
from distill.teacher.budget import check_price, estimate, within_bounds
from distill.teacher.endpoint.client import Client, check_url, read_key
from distill.teacher.lint import check_rows
from distill.teacher.prices import price_of
from distill.teacher.rehearsal import check_filled_in, rehearse
from distill.teacher.results import aggregate, summary
from distill.teacher.results.export import check_released, released_files, write_released
from distill.teacher.results.outputs import (
    COMMAND,
    STORED,
    check_outputs,
    check_places,
    no_label_warning,
    write_teacher_row,
)
from distill.teacher.samples import PendingRow, pending_rows, stored_key
from distill.teacher.sampling import Digests
from distill.teacher.settings import Inputs, Options, Outputs
from distill.teacher.storage.store import Store
from distill.teacher.unused_flags import check_flags
from distill.teacher.without_model import check_prompt, simulate
from distill.tickets.flags import TicketFlags

OPENAI = "https://api.openai.com/v1"


def run_annotate(options: Options) -> summary.Result:
    """Does what the flags say.

    Raises:
      UserError: flags that do not fit together, bad rows, or an endpoint that refuses.
    """
    check_flags(options)
    inputs, tickets = options.inputs, options.tickets
    if options.mode.check:
        rows = rows_of_options(inputs, tickets) if inputs.has_rows else ()
        return check_prompt(options.mode.check, rows)
    if options.mode.rehearsal:
        return rehearse(_named(options.outputs), rows_of_options(inputs, tickets), inputs)
    asked = inputs.prompt or options.sampling.model or options.connection.base_url
    if not (asked or inputs.has_rows):
        return simulate(_named(options.outputs), tickets, rows_of_options(inputs, tickets))
    return _Pipeline(options).run()


def _named(outputs: Outputs) -> str:
    """The output, looked at before rows are read."""
    if not outputs.output:
        raise UserError("give the JSONL file to write with --output")
    return outputs.output


def rows_of_options(inputs: Inputs, tickets: TicketFlags) -> Sequence[Example]:
    """The rows that the flags name; tickets where they name none.

    Raises:
      UserError: two sources, a flag that a source needs, or what the source's reader refuses.
    """
    given_flags = [name for name in ("input", "raw_dir", "tfds") if getattr(inputs, name)]
    if len(given_flags) > 1:
        raise UserError(f"got both --{' and --'.join(given_flags)}, expected only one of them")
    mapping = sources.mapping_of(inputs.field, inputs.label_names or "")
    if inputs.input:
        return sources.from_file(inputs.input, inputs.split, mapping)
    if inputs.raw_dir:
        if not inputs.dataset:
            raise UserError("--raw_dir needs --dataset (and --split)")
        return sources.from_released(inputs.raw_dir, inputs.dataset, inputs.split)
    if inputs.tfds:
        return sources.from_tfds(inputs.tfds, inputs.split, mapping, inputs.tfds_data_dir)
    return tickets.generate(inputs.split)


class _Pipeline:
    """Rows, prompt and model of one command."""

    def __init__(self, options: Options) -> None:
        self.inputs, self.outputs, self.mode = options.inputs, options.outputs, options.mode
        self.settings, self.filters = options.job, options.filters
        self.batching = options.batching
        self.warning: str | None = None  # why the result is of no use
        self.connection = options.connection
        name = prompts.name_for(self.inputs)
        if not options.sampling.model:
            raise UserError("give the model's name at the endpoint with --model")
        self.folder = self._store_folder()
        if not (self.folder or self.mode.dry_run):
            raise UserError("give the JSONL file to write with --output (or a --store)")
        self.prompt = prompts.load_prompt(name, options.reading, options.sampling.as_json)
        self.sampling = options.sampling.for_prompt(self.prompt, self.settings.samples)
        url = self.connection.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        self.base_url = check_url(url)
        self.price = price_of(self.sampling.model, self.settings.prices)
        self.digests = Digests(self.prompt, self.sampling)
        self.digests.any_ends = self.mode.reparse
        self.rows = rows_of_options(self.inputs, options.tickets)
        if not len(self.rows):
            raise UserError("there are no rows to annotate")

    def _store_folder(self) -> epath.Path | None:
        """The store's folder, None where neither it nor an output is named."""
        if self.outputs.store:
            return epath.Path(self.outputs.store)
        if not self.outputs.output:
            return None
        output = epath.Path(self.outputs.output)
        return output.parent / f"{output.stem}.store"

    def run(self) -> summary.Result:
        result = self._run()
        if not self.warning:
            return result
        if self.settings.min_parsed:
            raise CheckFailed(self.warning, result)
        to_stderr(f"warning: {self.warning}")
        return result

    def _run(self) -> summary.Result:
        check_outputs(self.outputs, self.mode, self.inputs, self._dataset, self.folder)
        self._check_rows()
        mode, folder = self.mode, self.folder
        if mode.dry_run:
            return self._dry_run()
        check_places(self.outputs, folder)
        if mode.batch_write or mode.batch_read or mode.reparse:
            if not mode.batch_write and not (folder and folder.exists()):
                raise UserError(f"the store {folder} does not exist; give another with --store")
            with Store(folder) as store:
                return self._offline(store)
        # All that can be refused is refused before a store is made.
        connection, concurrency = self.connection, self.settings.concurrency
        key = read_key(connection.key_env, self.base_url)
        client = Client(
            self.base_url,
            key,
            connection.timeout,
            concurrency,
            connection.any_model,
            connection.stream,
        )
        check_price(self.settings, self.price, self.sampling.model)
        with Store(folder) as store:
            store.describe(self.digests.head, self.digests.about)
            asked = (self.rows, self.prompt, self.sampling, self.settings)
            job: annotate.Job | BatchJob
            if self.batching.batch:
                any_model = connection.any_model
                job = BatchJob(*asked, self.batching, store, client, self.price, any_model)
                stats = run_batch_job(job)
            else:
                Ledger(store.path).check_none(self.digests.head)
                job = annotate.Job(*asked, store, client, self.price)
                stats = annotate.run_job(job)
            if stats.failed and not stats.answered and not self._stored(store, (True,)):
                reasons = ", ".join(f"{n:,} {reason}" for reason, n in stats.reasons.items())
                raise UserError(
                    f"no row was answered: {reasons}, the last with {job.last_failure}; use "
                    "--retry_failed to request them again"
                )
            with disk_errors(self.outputs.output or folder, STORED):
                aggregated = self._aggregate(store)
            done: summary.Asked = {**aggregated, **stats.spent(), "stopped": job.stopped}
            if isinstance(job, BatchJob):
                done["batches"] = job.batches
            return done

    def _check_rows(self) -> None:
        """Refuses, before anything is asked, rows that cannot be asked or written.

        Raises:
          UserError: a row that the prompt, the released layout or the teacher's row cannot hold.
        """
        check_rows(self.prompt, self.rows)
        if not self.mode.dry_run:
            check_filled_in(self.prompt)
        if self.outputs.released_dir:
            check_released(self._dataset, self.inputs.split, self.rows)
        if self.outputs.teacher_row and all(row.label is None for row in self.rows):
            raise UserError("--teacher_row needs rows with gold labels")

    @property
    def _dataset(self) -> str:
        """The dataset whose released layout is written."""
        return self.inputs.dataset or self.prompt.name

    def _offline(self, store: Store) -> summary.BatchWritten | summary.Annotated:
        mode = self.mode
        if mode.reparse:
            self._check_answered(store)
            return self._aggregate(store)
        if mode.batch_write:
            Ledger(store.path).check_none(self.digests.head)
            missing = self._missing(store, self.settings.retry_failed)
            allowed = within_bounds(missing, self.settings, self.price, self.prompt, self.sampling)
            store.describe(self.digests.head, self.digests.about)
            written = batch_files.write_requests(
                mode.batch_write, allowed, self.prompt, self.sampling
            )
            return {"mode": "batch_write", **written}
        # What a batch answered is taken, though the row may have failed elsewhere.
        pending = self._missing(store, retry_failed=True)
        any_model = self.connection.any_model
        read = batch_files.read_results(
            mode.batch_read, pending, self.prompt, self.sampling, store, any_model
        )
        store.sync()
        return {**self._aggregate(store), "batch": read}

    def _missing(self, store: Store | None, retry_failed: bool) -> Iterator[PendingRow | None]:
        samples = self.settings.samples
        return pending_rows(self.rows, self.digests, samples, store, retry_failed)

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
        hint = "; it contains none of these rows"
        closest = min(differing, key=len, default=set())
        if closest:
            hint = f"; the closest stored request differs in: {', '.join(sorted(closest))}"
        raise UserError(f"{store.path} has no answer to this prompt, model and settings{hint}")

    def _stored(self, store: Store, states: tuple[bool, ...]) -> bool:
        """Whether the first sample of any row is stored, in one of these states."""
        keys = (stored_key(store, self.digests, row, 0) for row in self.rows)
        return any(store.state(key) in states for key in keys)

    def _dry_run(self) -> summary.DryRun:
        """The first prompt and the estimate of what is left to ask; no endpoint, no new store."""
        settings = self.settings
        if self.folder and not is_bucket(os.fspath(self.folder)):
            flag = "--store" if self.outputs.store else "--output"
            nearest_folder(os.fspath(self.folder), flag)
        exists = self.folder and self.folder.exists()
        with Store(self.folder, read_only=True) if exists else contextlib.nullcontext() as store:
            tasks = list(filter(None, self._missing(store, settings.retry_failed)))
        tasks = tasks[: settings.max_rows]
        row = tasks[0].row if tasks else self.rows[0]
        tokens_in, tokens_out = estimate(tasks, self.prompt, self.sampling)
        price = self.price.batched() if self.price and self.batching.batch else self.price
        body = self.sampling.body(self.prompt, row, settings.samples, 0)
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
            "cost_at_most": price.of(tokens_in, tokens_out) if price else None,
        }

    def _aggregate(self, store: Store) -> summary.Annotated:
        """Reads the answers, writes rows and the teacher's accuracy."""
        outputs, totals = self.outputs, aggregate.Totals()
        samples = self.settings.samples
        aggregated = aggregate.aggregate(
            self.rows, self.prompt, self.digests, samples, store, totals
        )
        released: list[tuple[Example, str]] = []
        keep = (lambda *kept: released.append(kept)) if outputs.released_dir else None
        written: aggregate.WrittenRows = {"written": 0, "dropped": {}, "dropped_file": None}
        if outputs.output:
            same, rationales = self.prompt.same, outputs.rationales
            with writing_own(outputs.output, COMMAND):
                written = aggregate.write_annotated(
                    outputs.output, aggregated, self.filters, same, rationales, keep
                )
        else:
            for entry in aggregated:
                same = self.prompt.same
                passing = self.filters.passing(entry.readings, entry.agreement, same)
                if keep and passing:
                    keep(*passing[0])
        if outputs.released_dir:
            split = self.inputs.split
            with writing_own(
                released_files(outputs.released_dir, self._dataset, split)[0], COMMAND
            ):
                write_released(outputs.released_dir, self._dataset, split, released)
        self.warning = no_label_warning(totals, self.prompt.name)
        teacher = self._teacher(totals)
        return {
            "mode": "annotate",
            "output": outputs.output,
            "store": str(store.path),
            "rows": totals.rows,
            "answered": totals.answered,
            "failed": sum(totals.failed.values()),
            "pending": totals.pending,
            "failed_by_reason": dict(sorted(totals.failed.items())),
            "model": self.sampling.model,
            "models": dict(sorted(totals.models.items())),
            "parsed": totals.parsed,
            "cut_off": totals.cut_off,
            "thoughts": aggregate.thoughts_of(totals),
            "parse_failures": dict(sorted(totals.failures.items())),
            **written,
            "stored_tokens": {"in": totals.tokens_in, "out": totals.tokens_out},
            "teacher": teacher,
        }

    def _teacher(self, totals: aggregate.Totals) -> aggregate.TeacherAccuracy | None:
        row = aggregate.teacher_row(totals, self.price)
        if self.outputs.teacher_row:
            if row is None:
                raise UserError("--teacher_row needs at least one finished row with a gold label")
            inputs = self.inputs
            about = {
                "dataset": inputs.dataset or inputs.tfds or inputs.input or "tickets",
                "split": inputs.split,
                "model": self.sampling.model,
                "prompt": self.prompt.name,
                "samples": self.settings.samples,
            }
            write_teacher_row(self.outputs.teacher_row, row, about)
        return row
