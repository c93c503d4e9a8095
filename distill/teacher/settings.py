"""What `distill annotate` can be told: its flags are derived from these dataclasses.

The fields' texts are those of `distill annotate --help`. Filters and the settings of a request are
dataclasses of the same kind in `filters` and `sampling`. Nothing here imports what is heavy, for
the command line reads it for every command.
"""

from __future__ import annotations

import dataclasses

from distill.common.flags import check_bounds, flag
from distill.data.mapping.help_text import FIELD_HELP, LABEL_NAMES_HELP
from distill.errors import UserError
from distill.teacher.answers.settings import Reading
from distill.teacher.batches.settings import Batching
from distill.teacher.results.filters import Filters
from distill.teacher.sampling import Sampling
from distill.tickets.flags import TicketFlags


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Which rows are annotated, and with which prompt."""

    input: str | None = flag(
        None, "a file of rows: JSONL, CSV, TSV, Parquet or a JSON array, also .gz", metavar="FILE"
    )
    raw_dir: str | None = flag(None, "folder in the layout of the paper's data; needs --dataset")
    tfds: str | None = flag(None, "a TFDS dataset, e.g. esnli:0.1.0, with --field", metavar="NAME")
    tfds_data_dir: str | None = flag(None, "folder of TFDS datasets", metavar="DIR")
    field: tuple[str, ...] = flag((), FIELD_HELP, metavar="NAME=TEMPLATE")
    label_names: str | None = flag(None, LABEL_NAMES_HELP, metavar="NAMES")
    dataset: str | None = flag(None, "with --raw_dir: esnli, anli1, cqa, svamp or asdiv")
    split: str = flag("train", "split to annotate")
    prompt: str | None = flag(
        None,
        "esnli, anli1, cqa, svamp, tickets, or a .toml file; default: the prompt with the same "
        "name as --dataset",
        metavar="NAME|FILE",
    )

    @property
    def has_rows(self) -> bool:
        """Whether rows are named; without them, tickets are generated."""
        return bool(self.input or self.raw_dir or self.tfds)


@dataclasses.dataclass(frozen=True)
class Connection:
    """Who is asked."""

    base_url: str | None = flag(
        None, "address of the endpoint; default: $OPENAI_BASE_URL or OpenAI"
    )
    key_env: str = flag(
        "OPENAI_API_KEY", "the environment variable with the API key", metavar="NAME"
    )
    any_model: bool = flag(False, "accept answers whose model name differs from --model")
    stream: bool = flag(False, "request streamed answers, for servers that support no others")
    timeout: float = flag(120.0, "seconds for one request", least=1e-3, most=86400)

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.base_url is not None and not self.base_url.strip():
            raise UserError(
                "got an empty --base_url, expected e.g. http://localhost:8000/v1; leave the flag "
                "out for $OPENAI_BASE_URL or OpenAI"
            )


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a job asks: samples, concurrency, limits, attempts, costs, and when it stops.

    Attributes without a flag:
      backoff_longest: seconds; the longest wait after a failure, see `limits.backoff`.
      longest_wait: seconds; a Retry-After beyond this stops the job.
    """

    samples: int = flag(
        1, "answers to request per row; the most frequent label is used", least=1, most=10_000
    )
    concurrency: int = flag(16, "requests sent at once", least=1, most=10_000)
    requests_per_minute: float | None = flag(None, "default: no limit", least=0.001)
    tokens_per_minute: float | None = flag(None, "default: no limit", least=1)
    max_attempts: int = flag(10, "requests before a row fails", least=1)
    backoff_base: float = flag(
        0.5, "seconds to wait after the first failure", name="backoff_seconds", least=0, most=86400
    )
    max_failures: int = flag(
        50, "stop after this many consecutive rows that failed or have no label", least=1
    )
    min_parsed: float = flag(
        0.25,
        "from 20 answers on, stop if labels can be read from less than this share of them; 0 turns "
        "this off, and rows without a label then do not count toward --max_failures",
        least=0,
        most=1,
    )
    max_rows: int | None = flag(None, "send requests for at most this many rows", least=1)
    max_cost: float | None = flag(
        None, "stop before the cost of this command exceeds this amount", metavar="USD", least=0
    )
    prices: str | None = flag(
        None,
        'JSON: {"model": {"in": USD, "out": USD, "batch": 0.5}} per million tokens; batch: the '
        "price in batches, as a fraction of the normal price",
        metavar="FILE",
    )
    retry_failed: bool = flag(False, "retry rows that failed before")
    progress_seconds: float = flag(10.0, "seconds between progress lines; 0: none", least=0)
    backoff_longest: float = 60.0
    longest_wait: float = 600.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is kept and written."""

    output: str | None = flag(None, "write training rows to this JSONL file", metavar="FILE")
    store: str | None = flag(
        None, "folder of stored answers; default: <output>.store", metavar="DIR"
    )
    released_dir: str | None = flag(
        None, "also write the rows to this folder, in the layout of the paper's data", metavar="DIR"
    )
    teacher_row: str | None = flag(
        None,
        "write the teacher's accuracy on the rows with a gold label, and its mean cost per row, to "
        "this JSON file (a row of a results table)",
        metavar="FILE",
    )
    rationales: int = flag(
        1,
        "per input row, keep up to this many rationales from answers that gave the chosen label; "
        "each becomes an output row",
        least=1,
    )

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class Mode:
    """What is done instead of asking."""

    dry_run: bool = flag(False, "show the first prompt and the estimated cost")
    check: str | None = flag(
        None,
        "check a prompt; if rows are given, also check that no exemplar is among them",
        metavar="NAME|FILE",
    )
    reparse: bool = flag(False, "write the output again from the store; send nothing")
    rehearsal: bool = flag(
        False,
        "copy gold labels, or the most frequent one, and write a dummy rationale, to try all steps "
        "before a model is paid",
    )
    batch_write: str | None = flag(None, "write the requests to a batch file", metavar="FILE")
    batch_read: tuple[str, ...] = flag((), "read results of a batch; repeatable", metavar="FILE")


@dataclasses.dataclass(frozen=True)
class Options:
    """All flags of `distill annotate`, by the groups of its help."""

    inputs: Inputs = dataclasses.field(
        metadata={"title": "rows and prompt (default: generated tickets)"}
    )
    tickets: TicketFlags = dataclasses.field(
        metadata={"title": "generated tickets (if no rows are given)"}
    )
    sampling: Sampling = dataclasses.field(metadata={"title": "model and request"})
    connection: Connection = dataclasses.field(metadata={"title": "endpoint"})
    reading: Reading = dataclasses.field(metadata={"title": "how answers are read"})
    job: Settings = dataclasses.field(metadata={"title": "samples, limits, costs"})
    batching: Batching = dataclasses.field(metadata={"title": "batches of the provider"})
    filters: Filters = dataclasses.field(
        metadata={"title": "rows that are dropped from the output"}
    )
    outputs: Outputs = dataclasses.field(metadata={"title": "output"})
    mode: Mode = dataclasses.field(metadata={"title": "modes that send no requests"})
