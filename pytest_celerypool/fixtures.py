"""What tests ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_celerypool.cluster import Starter
    from pytest_celerypool.pools import Pool
    from pytest_celerypool.worker import WorkerHandle


@pytest.fixture(scope="session")
def celery_pool_app() -> Any:
    """The Celery application under test; override it in a conftest or module, or give --celery-app."""
    pytest.fail(
        "pytest-celerypool does not know your application. Give --celery-app=MODULE:ATTR (as for celery -A), set "
        "celery_app in the ini file, or override the fixture celery_pool_app to return it.",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def celery_pool(request: pytest.FixtureRequest) -> Pool:
    """The pool that this test runs under; str() of it is its name. A test that uses it runs once a pool."""
    from pytest_celerypool.lease import variant_of

    return variant_of(request).pool


@pytest.fixture
def celery_pool_worker(
    request: pytest.FixtureRequest, celery_pool: Pool, celery_pool_app: Any
) -> Iterator[WorkerHandle]:
    """A handle on a running worker of the test's pool: submit, run, map, drain, spans, log, kill, restart."""
    _refuse_windows()
    from pytest_celerypool.lease import lease

    with lease(request, celery_pool_app) as handle:
        yield handle


@pytest.fixture
def celery_pool_cluster(request: pytest.FixtureRequest, celery_pool_app: Any) -> Iterator[Starter]:
    """Call it with ``{name: dict(pool=…, queues=[…], concurrency=…)}``: these workers side by side, handles by name."""
    _refuse_windows()
    from pytest_celerypool.cluster import lend

    with lend(request, celery_pool_app) as start:
        yield start


def _refuse_windows() -> None:
    if sys.platform == "win32":
        from pytest_celerypool.errors import WINDOWS

        pytest.fail(WINDOWS, pytrace=False)
