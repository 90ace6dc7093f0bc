"""Every pytest hook of pytest-celerypool, and nothing else.

This module is imported in every pytest run of an environment: what a hook needs is imported inside it. Until a run
turns out to use a pool, which is when ``SETTINGS`` get into its stash, the hooks only look whether it does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_celerypool.fixtures import celery_pool, celery_pool_app, celery_pool_cluster, celery_pool_worker
from pytest_celerypool.keys import (
    ATTRIBUTE,
    HANDLE,
    HOST,
    HOSTING,
    LATE_OF_NODE,
    MARKERS,
    NOTES,
    NOTES_OF_NODE,
    SEED_OF_RUN,
    SETTINGS,
    SUMMARY,
    WORKERS,
)
from pytest_celerypool.surface import (
    AXIS,
    CLUSTER,
    MULTIPLY,
    WORKER,
    add_markers,
    add_options,
    is_our_mark,
    reaches_contrib,
    used_by_run,
    used_by_test,
)

__all__ = ["celery_pool", "celery_pool_app", "celery_pool_cluster", "celery_pool_worker"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options and ini keys."""
    add_options(parser)
    # Not later, or conftest files would no longer see what is added to a report.
    pluginmanager.register(Tests(), Tests.NAME)
    pluginmanager.register(Marked())


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hook by which other plugins add detectors."""
    from pytest_celerypool.hookspecs import Hooks

    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, check the settings if there are any."""
    add_markers(config)
    if used_by_run(config):
        _use(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End whatever was started, if the session did not come to its own end."""
    _close(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show the effective settings and where they came from, if anybody chose any."""
    if SETTINGS not in config.stash:
        return []
    from pytest_celerypool.startup import header

    return header(config)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Add to the header what is known only once the tests have been imported."""
    if SETTINGS not in config.stash:
        return []
    from pytest_celerypool.startup import header_of_application, header_of_contribs

    contribs = header_of_contribs(items) if config.pluginmanager.hasplugin(Contrib.NAME) else []
    return [*header_of_application(config), *contribs]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a worker once for each of its pools."""
    if used_by_test(metafunc.fixturenames, metafunc.definition):
        _use(metafunc.config)
        from pytest_celerypool.variants import parametrize

        parametrize(metafunc, metafunc.config.stash[SETTINGS])
    if reaches_contrib(metafunc.fixturenames) and metafunc.config.pluginmanager.hasplugin(Contrib.NAME):
        from pytest_celerypool.contrib import parametrize as parametrize_contribs

        parametrize_contribs(metafunc, metafunc.config.stash[SETTINGS])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note where the test stands in the matrix, and give it its worker."""
    names = getattr(item, "fixturenames", ())
    if used_by_test(names, item):
        _use(item.config)
    elif not (reaches_contrib(names) and item.config.pluginmanager.hasplugin(Contrib.NAME)):
        return
    from pytest_celerypool.variants import place

    place(item, item.config.stash[SETTINGS])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a pool together where xdist distributes groups."""
    if SETTINGS in config.stash:
        from pytest_celerypool.variants import group_for_xdist

        group_for_xdist(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave the tests alone if none of them uses a pool; a controller of xdist collects none, and hears of all.

    If there are some, check what is known only now that every conftest file was read.
    """
    manager = session.config.pluginmanager
    if SETTINGS in session.config.stash:
        from pytest_celerypool.startup import check_application

        check_application(session)
    elif manager.hasplugin(Tests.NAME):
        manager.unregister(name=Tests.NAME)


def pytest_fixture_setup(fixturedef: Any, request: Any) -> Any:
    """Let ``--celery-app`` win over an overridden fixture; notice a test that reaches a worker dynamically."""
    if fixturedef.argname == "celery_pool_app" and SETTINGS in request.config.stash:
        from pytest_celerypool.startup import give_application

        return give_application(fixturedef, request)
    if fixturedef.argname in (AXIS, CLUSTER):
        _use(request.config)
    if fixturedef.argname == AXIS:
        from pytest_celerypool.lease import tell_pools_apart

        tell_pools_apart(fixturedef)
    if fixturedef.argname in (WORKER, CLUSTER) and MARKERS not in request.node.stash:
        from pytest_celerypool.running import check_markers

        check_markers(request.node)
    return None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Judge the test's tasks while the test is still in its call phase, in which it may reach its first worker."""
    if HANDLE in item.stash:
        from pytest_celerypool.running import begin_call

        begin_call(item)
    try:
        result = yield
    except BaseException as exc:
        if HANDLE in item.stash:
            from pytest_celerypool.running import judge_failed

            judge_failed(item, exc)
        raise
    if HANDLE in item.stash:
        from pytest_celerypool.running import judge_passed

        judge_passed(item)
    return result


class Tests:
    """The other hooks that pytest calls for each test, apart: a run in which none uses a pool goes without them."""

    NAME = "celerypool-tests"

    def pytest_configure(self, config: pytest.Config) -> None:
        """Keep the configuration, which reports do not know."""
        self._config = config

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Know what comes next, so that its worker can start ahead."""
        from pytest_celerypool.running import note_next

        note_next(item, nextitem)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Check the test's markers."""
        from pytest_celerypool.running import check_markers

        check_markers(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the worker's log to a failing test, and the plain data that the end of the session needs."""
        report = yield
        from pytest_celerypool.running import complete

        complete(item, report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase of a test, from here or from a node of xdist."""
        if hasattr(report, ATTRIBUTE) and not hasattr(self._config, "workerinput"):
            _use(self._config)
            self._config.stash[SUMMARY].add(report)


class Marked:
    """The hooks for marks that are not a function's own: those of a parameter set, and those that a hook adds later."""

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Generator[None, object, object]:
        """Give each parameter set a worker and pools by its own marks, once all are known."""
        result = yield
        names = metafunc.fixturenames
        contribs = reaches_contrib(names) and metafunc.config.pluginmanager.hasplugin(Contrib.NAME)
        if not (
            any(is_our_mark(mark) for call in metafunc._calls for mark in call.marks)
            or used_by_test(names, metafunc.definition)
            or contribs
        ):
            return result
        _use(metafunc.config)
        from pytest_celerypool.variants import settle

        settings = metafunc.config.stash[SETTINGS]
        settle(metafunc, settings)
        if contribs:
            from pytest_celerypool.contrib import settle as settle_contribs

            settle_contribs(metafunc, settings)
        return result

    @pytest.hookimpl(trylast=True)  # and still before xdist, which takes the names of the tests
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Give tests what marks say that were added to them when they had been collected."""
        for item in items:
            if used_by_test(getattr(item, "fixturenames", ()), item):
                _use(config)
                from pytest_celerypool.variants import place_again

                place_again(item, config.stash[SETTINGS])


class Contrib:
    """The hooks for suites written for ``celery.contrib.pytest``: only where pools were chosen for the whole run."""

    NAME = "celerypool-contrib"

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Give their worker to tests that rely on the session worker of others."""
        from pytest_celerypool.contrib import lend_session_worker

        lend_session_worker(items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, object, object]:
        """Give the fixtures of contrib the pool of their test, and a worker that can be replaced."""
        from pytest_celerypool.contrib import set_up

        return (yield from set_up(fixturedef, request))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note the tasks that the test defines, so that it can define them again under the next pool."""
        from pytest_celerypool.contrib import call

        return (yield from call(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Replace a worker in which the test left a task running for ever."""
        try:
            return (yield)
        finally:
            from pytest_celerypool.contrib import after_test

            after_test(item)


class Multiplied:
    """The hooks for suites that start their workers themselves: only where pools were chosen and the ini key names any.

    :param multiplication: what is done.
    """

    NAME = "celerypool-multiplied"

    def __init__(self, multiplication: Any) -> None:
        self._multiplication = multiplication

    @pytest.hookimpl(trylast=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give a named function the axis."""
        self._multiplication.parametrize(metafunc)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: pytest.Collector, name: str, obj: object) -> Any:
        """Collect a named class of unittest once for each pool."""
        import unittest

        if isinstance(obj, type) and issubclass(obj, unittest.TestCase):
            return self._multiplication.collect_class(collector, name, obj)
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note where the test stands in the matrix."""
        self._multiplication.place(item)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Have whatever starts a worker start one of the test's pool."""
        with self._multiplication.running(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, object, object]:
        """Know which fixture starts a worker."""
        with self._multiplication.setting_up(fixturedef, request):
            return (yield)


class Hosted:
    """The hooks for tests that run in a host, apart: modules and ``Tests`` have wrappers of the same names."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run the test in its host, if this process cannot hold its pool."""
        if HOST not in item.stash:
            return None
        from pytest_celerypool.hosting import run_in_host

        return run_in_host(item, nextitem) or None  # with anything but None nobody else would run it

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """End the hosts before pytest-cov, which wraps the loop too, gathers what they have measured."""
        if any(HOST in item.stash for item in session.items):
            from pytest_celerypool.hosting import prepare

            prepare(session)
        try:
            return (yield)
        finally:
            _close_hosts(session.config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """After the last test, report what only all pools together can show."""
    interrupted, complete = False, False
    try:
        result = yield
        complete = True
        return result  # noqa: TRY300 - it is no part of what may fail
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        interrupted = True
        raise
    finally:
        if not interrupted:
            _close(session.config)  # what workers show at their end belongs to the session
        if SUMMARY in session.config.stash:
            from pytest_celerypool.report.ending import report_endings

            report_endings(session, complete=complete)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End every worker and broker, side by side; last, since an interrupted test gives its worker back only now."""
    _close(session.config)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the matrix."""
    if SUMMARY in terminalreporter.config.stash:
        from pytest_celerypool.report.ending import write_summary

        write_summary(terminalreporter)


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a pool together in xdist's plain ``load`` distribution; any other was chosen on purpose."""
    if config.getvalue("dist") != "load":
        return None
    from pytest_celerypool.distribution import make_scheduler

    return make_scheduler(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a node of xdist, or a host, what it could only draw for itself."""
    settings = node.config.stash.get(SETTINGS, None)
    if settings is not None:
        node.workerinput[SEED_OF_RUN] = settings.stress_seed


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a node of xdist had to say at its end."""
    notes = getattr(node, "workeroutput", {}).get(NOTES_OF_NODE)
    late = getattr(node, "workeroutput", {}).get(LATE_OF_NODE)
    if notes or late:
        _use(node.config)
        node.config.stash[SUMMARY].note(notes or ())
        node.config.stash[SUMMARY].add_late(late or ())


def _use(config: pytest.Config) -> None:
    """Have everything ready that the hooks of a run with pools need."""
    if SETTINGS not in config.stash:
        from pytest_celerypool.startup import configure

        configure(config)
        if not config.pluginmanager.hasplugin(Tests.NAME):
            config.pluginmanager.register(Tests(), Tests.NAME)
        if config.stash[SETTINGS].pools is not None:
            config.pluginmanager.register(Contrib(), Contrib.NAME)
            if config.getini(MULTIPLY):
                from pytest_celerypool.multiply import Multiplication, patterns_of

                multiplication = Multiplication(config.stash[SETTINGS], patterns_of(config))
                config.pluginmanager.register(Multiplied(multiplication), Multiplied.NAME)
        config.pluginmanager.register(Hosted())


def _close_hosts(config: pytest.Config) -> None:
    if HOSTING in config.stash:
        from pytest_celerypool.hosting import close

        close(config)


def _close(config: pytest.Config) -> None:
    _close_hosts(config)
    workers = config.stash.get(WORKERS, None)
    if workers is not None:
        del config.stash[WORKERS]
        workers.close()
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output[NOTES_OF_NODE] = config.stash.get(NOTES, [])
        output.setdefault(LATE_OF_NODE, []).extend(workers.late if workers is not None else [])
    elif workers is not None and SUMMARY in config.stash:
        config.stash[SUMMARY].add_late(workers.late)
