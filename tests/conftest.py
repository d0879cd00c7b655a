"""What holds for all tests: hypothesis is reproducible, and real parts may not be skipped where they are required."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("moxie", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("search", parent=settings.get_profile("moxie"), derandomize=False, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "moxie"))

# The readline that pytest loads tells every child how large the terminal is, unseen by os.environ; commands under test
# write into pipes, and into a pipe they write rows whole.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
    os.unsetenv(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test marked ``real`` into a failure if ``REQUIRE_REAL`` is set."""
    report = yield
    if report.skipped and os.environ.get("REQUIRE_REAL") == "1" and item.get_closest_marker("real"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: REQUIRE_REAL=1 forbids to skip it"
    return report
