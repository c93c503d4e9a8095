"""What `distill annotate` can be told: its flags are derived from these dataclasses.

The fields' texts are those of `distill annotate --help`. Filters and the settings of a request are
dataclasses of the same kind in `filters` and `sampling`. Nothing here imports what is heavy, for
the command line reads it for every command.
"""

from __future__ import annotations

import dataclasses

from distill.common.flags import check_bounds, flag
from distill.teacher.filters import Filters
from distill.teacher.sampling import Sampling
from distill.tickets.flags import TicketFlags


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Which rows are annotated, and with which prompt."""

    input: str | None = flag(None, "JSONL or CSV with the field input", metavar="FILE")
    raw_dir: str | None = flag(None, "the released layout, with --dataset and --split")
    tfds: str | None = flag(None, "a TFDS dataset, e.g. esnli:0.1.0, with --field", metavar="NAME")
    tfds_data_dir: str | None = flag(None, "where TFDS keeps its datasets", metavar="DIR")
    field: tuple[str, ...] = flag(
        (),
        "TFDS: what makes a field (id, input, label, choices); repeatable, e.g. "
        '--field input="premise: {premise} hypothesis: {hypothesis}" --field label=label',
        metavar="NAME=TEMPLATE",
    )
    dataset: str | None = flag(None, "released layout: esnli, anli1, cqa, svamp or asdiv")
    split: str = flag("train", "of the rows")
    prompt: str | None = flag(
        None,
        "esnli, anli1, cqa, svamp, tickets, or a .toml file; default: --dataset",
        metavar="NAME|FILE",
    )

    @property
    def has_rows(self) -> bool:
        """Whether rows are named; without them, tickets are generated."""
        return bool(self.input or self.raw_dir or self.tfds)


@dataclasses.dataclass(frozen=True)
class Connection:
    """Who is asked."""

    base_url: str | None = flag(None, "default: $OPENAI_BASE_URL or OpenAI")
    key_env: str = flag(
        "OPENAI_API_KEY", "the environment variable with the API key", metavar="NAME"
    )
    any_model: bool = flag(False, "take answers of a model of another name")
    timeout: float = flag(120.0, "seconds for one request", least=1e-3, most=86400)

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a job asks: samples, concurrency, limits, attempts, costs, and when it stops.

    Attributes without a flag:
      backoff_longest: seconds; the longest wait after a failure, see `limits.backoff`.
      longest_wait: seconds; a Retry-After beyond this stops the job.
    """

    samples: int = flag(1, "answers per row; the majority's label counts", least=1, most=10_000)
    concurrency: int = flag(16, "requests under way at once", least=1, most=10_000)
    requests_per_minute: float | None = flag(None, "limit; default: none", least=0.001)
    tokens_per_minute: float | None = flag(None, "limit; default: none", least=1)
    max_attempts: int = flag(10, "requests before a row fails", least=1)
    backoff_base: float = flag(
        0.5, "first wait after a failure", name="backoff_seconds", least=0, most=86400
    )
    max_failures: int = flag(50, "rows that fail in turn until the job stops", least=1)
    max_rows: int | None = flag(None, "ask for so many rows, then stop", least=0)
    max_cost: float | None = flag(None, "stop before this run costs more", metavar="USD", least=0)
    prices: str | None = flag(
        None, 'JSON: {"model": {"in": USD, "out": USD}} per million tokens', metavar="FILE"
    )
    retry_failed: bool = flag(False, "ask again for rows that failed before")
    progress_seconds: float = flag(10.0, "between progress lines; 0: none", least=0)
    backoff_longest: float = 60.0
    longest_wait: float = 600.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is kept and written."""

    output: str | None = flag(None, "JSONL of training rows", metavar="FILE")
    store: str | None = flag(None, "where answers are kept; default: <output>.store", metavar="DIR")
    released_dir: str | None = flag(
        None, "also write the released layout, for --dataset", metavar="DIR"
    )
    teacher_row: str | None = flag(None, "write the teacher's own accuracy as JSON", metavar="FILE")
    rationales: int = flag(1, "agreeing rationales per row, each a row", least=1)

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class Mode:
    """What is done instead of asking."""

    dry_run: bool = flag(False, "show the first prompt and the estimate")
    check: str | None = flag(None, "lint a prompt, against the rows if given", metavar="NAME|FILE")
    reparse: bool = flag(False, "write again from the store, ask nothing")
    batch_write: str | None = flag(None, "write the requests as a batch file", metavar="FILE")
    batch_read: tuple[str, ...] = flag((), "read results; repeatable", metavar="FILE")


@dataclasses.dataclass(frozen=True)
class Options:
    """All flags of `distill annotate`, by the groups of its help."""

    inputs: Inputs = dataclasses.field(
        metadata={"title": "rows and prompt (default: tickets of the embedded dataset)"}
    )
    tickets: TicketFlags = dataclasses.field(metadata={"title": "tickets, where no rows are named"})
    sampling: Sampling = dataclasses.field(metadata={"title": "model and request"})
    connection: Connection = dataclasses.field(metadata={"title": "endpoint"})
    job: Settings = dataclasses.field(metadata={"title": "samples, limits, costs"})
    filters: Filters = dataclasses.field(
        metadata={"title": "rows that are dropped from the output"}
    )
    outputs: Outputs = dataclasses.field(metadata={"title": "what is kept and written"})
    mode: Mode = dataclasses.field(metadata={"title": "instead of asking"})
