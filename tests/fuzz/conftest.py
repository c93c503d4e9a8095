"""How many examples the fuzz tests try: DISTILL_FUZZ=long tries ten times as many."""

import collections
import os

import hypothesis
import pytest

_SETTINGS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}
hypothesis.settings.register_profile("short", max_examples=60, derandomize=True, **_SETTINGS)
hypothesis.settings.register_profile("long", max_examples=600, print_blob=True, **_SETTINGS)
hypothesis.settings.load_profile(os.environ.get("DISTILL_FUZZ") or "short")

_COUNTS = collections.Counter()


@pytest.fixture
def count(request):
    """Counts an example of the test; the counts are shown at the end of the session."""
    name = request.node.name
    return lambda: _COUNTS.update([name])


def pytest_terminal_summary(terminalreporter):
    if _COUNTS:
        tried = ", ".join(f"{name} {number:,}" for name, number in sorted(_COUNTS.items()))
        terminalreporter.write_line(f"fuzz examples: {sum(_COUNTS.values()):,} ({tried})")
