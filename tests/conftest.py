"""Fixtures for all tests: real Redis servers, and the rule that nothing is skipped where everything is required."""

import asyncio
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from hub.embedded import EmbeddedRedis

REQUIRE_ALL = os.environ.get("TICKWIRE_REQUIRE_ALL") == "1"

# Nothing here depends on how fast the machine is: no deadline, and no complaint that making examples was slow. Where
# everything is required each run tries the same examples, so that what failed there fails again.
settings.register_profile(
    "tickwire", deadline=None, derandomize=REQUIRE_ALL, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tickwire")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped although TICKWIRE_REQUIRE_ALL=1: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome, report.longrepr = "failed", f"skipped although TICKWIRE_REQUIRE_ALL=1: {report.longrepr}"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests over recordings that are not here: those in the repository always are, further ones may be."""
    empty = [item for item in items if any("empty parameter set" in str(m.kwargs) for m in item.iter_markers("skip"))]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real server with TimeSeries, one for the whole run. A test that kills servers makes its own."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """Address of the shared server, emptied."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url
