"""Every pytest hook of pytest-celerypool, and nothing else.

This module is imported in every pytest run of an environment: what a hook needs is imported inside it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_celerypool.fixtures import celery_pool, celery_pool_app, celery_pool_worker
from pytest_celerypool.keys import NOTES, NOTES_OF_NODE, SETTINGS, SUMMARY, WORKERS

if TYPE_CHECKING:
    from pytest_celerypool.report.summary import Summary

__all__ = ["celery_pool", "celery_pool_app", "celery_pool_worker"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and ini keys."""
    from pytest_celerypool.settings import add_options

    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the settings, register the markers."""
    from pytest_celerypool import startup

    startup.configure(config)
    summary = config.stash.get(SUMMARY, None)
    if summary is not None:
        config.pluginmanager.register(Reports(summary), "celerypool-reports")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End whatever was started, if the session did not come to its own end."""
    _close(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show the effective settings and where they came from, if anybody chose any."""
    from pytest_celerypool import startup

    return startup.header(config)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Add to the header what is known only once the tests have been imported."""
    from pytest_celerypool import startup

    return startup.header_of_application(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a worker once for each of its pools."""
    from pytest_celerypool import variants

    variants.parametrize(metafunc, metafunc.config.stash[SETTINGS])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note where the test stands in the matrix, and give it its worker."""
    from pytest_celerypool import variants
    from pytest_celerypool.pools import POOLS

    variants.place(item, item.config.stash[SETTINGS].pools or POOLS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a pool together where xdist distributes groups."""
    from pytest_celerypool import variants

    variants.group_for_xdist(config, items)


def pytest_fixture_setup(fixturedef: Any, request: Any) -> Any:
    """Let ``--celery-app`` win over an overridden fixture."""
    if fixturedef.argname != "celery_pool_app":
        return None
    from pytest_celerypool import startup

    return startup.give_application(fixturedef, request)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Know what comes next, so that its worker can start ahead."""
    from pytest_celerypool import running

    running.note_next(item, nextitem)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the test's markers."""
    from pytest_celerypool import running

    running.check_markers(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Judge the test's tasks while the test is still in its call phase."""
    from pytest_celerypool import running

    try:
        result = yield
    except BaseException as exc:
        running.judge_failed(item, exc)
        raise
    running.judge_passed(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the worker's log to a failing test, and the plain data that the end of the session needs."""
    report = yield
    from pytest_celerypool import running

    running.complete(item, report)
    return report


class Reports:
    """Hands the reports to the summary, where the session's reports come together."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase of a test, from here or from a node of xdist."""
        self._summary.add(report)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """After the last test, report what only all pools together can show."""
    try:
        return (yield)
    finally:
        from pytest_celerypool.report import ending

        ending.report_disagreements(session)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End every worker and broker, side by side; last, since an interrupted test gives its worker back only now."""
    _close(session.config)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the matrix."""
    from pytest_celerypool.report import ending

    ending.write_summary(terminalreporter)


def _close(config: pytest.Config) -> None:
    workers = config.stash.get(WORKERS, None)
    if workers is not None:
        del config.stash[WORKERS]
        workers.close()
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output[NOTES_OF_NODE] = config.stash.get(NOTES, [])
