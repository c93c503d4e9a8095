"""A loopback endpoint and rows for the tests of `distill annotate`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from distill.data.examples import Example, write_jsonl
from distill.teacher import annotate, prompts
from distill.teacher.endpoint.client import Client
from distill.teacher.sampling import Sampling
from distill.teacher.storage.store import Store
from distill.tickets import generator, server
from distill.tickets.faults import FaultPlan


@contextlib.contextmanager
def _endpoint(plan: FaultPlan | None = None, **settings) -> Iterator[tuple[server.Endpoint, str]]:
    respond = settings.pop("respond", None) or server.tickets_teacher()
    endpoint = server.Endpoint(respond, plan or FaultPlan(), **settings)
    with server.background(endpoint) as url:
        yield endpoint, url


@pytest.fixture
def serve():
    """`with serve(plan, latency=...) as (endpoint, url)`."""
    return _endpoint


@pytest.fixture(scope="session")
def tickets() -> list[Example]:
    """120 tickets with gold labels."""
    return generator.generate("natural", 120, 0, "train")


@pytest.fixture
def rows_file(tmp_path, tickets):
    """40 of them in a file."""
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, tickets[:40])
    return path


def _sampling(**changes) -> Sampling:
    prompt = prompts.load_prompt("tickets")
    settings = {"model": server.MODEL, "max_tokens": 60, "stops": prompt.stops, "seed": 1}
    return Sampling(**settings | changes).for_prompt(prompt)


@pytest.fixture
def sampling():
    """`sampling(**changes)`: how the tests ask the simulated teacher."""
    return _sampling


@pytest.fixture
def run_job():
    """Runs a job on a folder of its own; gives it when it has ended."""

    def run(
        url,
        rows,
        folder,
        key="none",
        timeout=60.0,
        any_model=False,
        asks=None,
        price=None,
        **settings,
    ):
        settings = {"backoff_base": 0.005, "progress_seconds": 0} | settings
        with Store(folder) as store:
            client = Client(url, key, timeout, settings.get("concurrency", 16), any_model)
            job = annotate.Job(
                rows,
                prompts.load_prompt("tickets"),
                asks or _sampling(),
                annotate.Settings(**settings),
                store,
                client,
                price,
            )
            annotate.run_job(job)
            job.records = list(store.records())
        return job

    return run
