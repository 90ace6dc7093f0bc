"""What tests ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
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
    if sys.platform == "win32":
        from pytest_celerypool.errors import WINDOWS

        pytest.fail(WINDOWS, pytrace=False)
    from pytest_celerypool.lease import lease

    with lease(request, celery_pool_app) as handle:
        yield handle
