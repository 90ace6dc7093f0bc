"""Suites that call ``celery.contrib.testing.worker.start_worker`` themselves, ``unittest.TestCase`` classes among them.

The ini key ``celery_multiply`` names them, since nothing in a test tells that it does. A function gets the axis as a
parameter; a class of ``unittest`` knows no parameters and is collected once for each pool. While such a test runs,
whatever starts a worker gets one of the test's pool.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import pytest
from _pytest.unittest import UnitTestCase

from pytest_celerypool.contrib import finish_all
from pytest_celerypool.keys import HOST, PLACE, POOL_OF_CLASS
from pytest_celerypool.pools import Pool, missing
from pytest_celerypool.settings import Settings
from pytest_celerypool.standin import forced_workers
from pytest_celerypool.surface import MULTIPLY, reaches_contrib
from pytest_celerypool.variants import Place, has_worker, host_for, parametrize_all, pool_of_variant, variants_of


class Multiplication:
    """Multiplies what the ini key names, for the pools of one run.

    :param settings: the run's settings; pools were chosen.
    :param patterns: what the ini key holds: globs of node ids.
    """

    def __init__(self, settings: Settings, patterns: Sequence[str]) -> None:
        self._settings = settings
        self._patterns = patterns
        #: The fixtures that are being set up, the innermost last.
        self._setting_up: list[tuple[Any, Any]] = []
        #: Fixtures that have started a worker, and for which pool.
        self._started: list[tuple[Any, Any, Pool]] = []

    def names(self, nodeid: str) -> bool:
        """Whether the ini key names a node, or the file, folder or class that it is in."""
        return any(fnmatchcase(nodeid, pattern) or fnmatchcase(nodeid, f"{pattern}[/:]*") for pattern in self._patterns)

    # -- collection

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Give a function the axis, unless it has a worker by its fixtures or markers already."""
        definition = metafunc.definition
        if (
            self.names(definition.nodeid)
            and not has_worker(metafunc.fixturenames, definition)
            and not reaches_contrib(metafunc.fixturenames)
            and not (metafunc.cls is not None and issubclass(metafunc.cls, unittest.TestCase))
        ):
            parametrize_all(metafunc, self._settings)

    def collect_class(self, collector: Any, name: str, cls: type[Any]) -> list[pytest.Collector] | None:
        """Return a collector of a ``TestCase`` for each pool, ``None`` for a class that is not named."""
        if not self.names(f"{collector.nodeid}::{name}"):
            return None
        pools = [each.pool for each in variants_of(None, self._settings)]
        return [self._class_for(pool, collector, name, cls) for pool in pools]

    @staticmethod
    def _class_for(pool: Pool, collector: Any, name: str, cls: type[Any]) -> pytest.Collector:
        node: Any = UnitTestCase.from_parent(collector, name=f"{name}[{pool.name}]")
        # A class of its own: what setUpClass keeps on it is of this pool.
        node.obj = type(cls.__name__, (cls,), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})
        node.stash[POOL_OF_CLASS] = pool
        reason = missing(pool)
        if reason is not None:
            node.add_marker(pytest.mark.skip(reason=reason))
        return node  # type: ignore[no-any-return]

    def place(self, item: pytest.Item) -> None:
        """Note where a test of a multiplied class stands in the matrix, and which host runs it."""
        pool = self.pool_of(item)
        if pool is None:
            return
        if PLACE not in item.stash:
            item.stash[PLACE] = Place(item.nodeid.replace(f"[{pool.name}]::", "::"), pool.name)
        host = host_for(pool, item.config)
        if host is not None:
            item.stash[HOST] = host

    def pool_of(self, item: pytest.Item) -> Pool | None:
        """Return the pool for which a test was multiplied here, ``None`` if it was not."""
        case = item.getparent(UnitTestCase)
        if case is not None:
            return case.stash.get(POOL_OF_CLASS, None)
        return pool_of_variant(item) if self.names(item.nodeid) else None

    # -- tests

    @contextmanager
    def running(self, item: pytest.Item) -> Iterator[None]:
        """Have whatever starts a worker meanwhile start one of the test's pool."""
        pool = self.pool_of(item)
        self._end_others(None if HOST in item.stash else pool, item.config)
        if pool is None or HOST in item.stash:
            yield
            return
        with forced_workers(item, pool, self._note(pool)):
            yield

    def _note(self, pool: Pool) -> Callable[[], None]:
        def note() -> None:
            if self._setting_up:
                self._started.append((*self._setting_up[-1], pool))

        return note

    @contextmanager
    def setting_up(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """Know that a worker which starts meanwhile lives as long as this fixture."""
        self._setting_up.append((fixturedef, request))
        try:
            yield
        finally:
            self._setting_up.pop()

    def _end_others(self, pool: Pool | None, config: pytest.Config) -> None:
        """End the fixtures of wider scope that hold a worker of another pool; they are set up anew for this one."""
        others = [(fixturedef, request) for fixturedef, request, of in self._started if of != pool]
        if others:
            self._started = [entry for entry in self._started if entry[2] == pool]
            finish_all(others, config)


def patterns_of(config: pytest.Config) -> list[str]:
    """Return what the ini key names."""
    return [str(pattern) for pattern in config.getini(MULTIPLY)]
