"""A conftest whose application no worker could import."""

import pytest
from celery import Celery


@pytest.fixture(scope="session")
def celery_pool_app():
    return Celery("local", broker="redis://localhost")
