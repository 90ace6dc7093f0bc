"""The user's own servers: a Redis on 127.0.0.1:6379 and a RabbitMQ on 127.0.0.1:5672.

A missing service skips on a laptop and fails in CI.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from servers import RABBITMQ, REDIS, Project, RabbitService, RedisService

# Run by the tests beside them.
collect_ignore = ["bugs"]


def _need(name: str, address: tuple[str, int]) -> None:
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError as error:
        text = f"no {name} answers at {address[0]}:{address[1]} ({error})"
        if os.environ.get("CI"):
            pytest.fail(text, pytrace=False)
        pytest.skip(text)


@pytest.fixture(scope="session")
def redis_service() -> RedisService:
    _need("Redis", REDIS)
    return RedisService()


@pytest.fixture(scope="session")
def rabbit_service() -> RabbitService:
    _need("RabbitMQ", RABBITMQ)
    return RabbitService()


@pytest.fixture(params=["redis", "amqp"], scope="session")
def service(request: pytest.FixtureRequest) -> Any:
    """Either server in turn."""
    return request.getfixturevalue("redis_service" if request.param == "redis" else "rabbit_service")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has no tests yet."""
    return Project(tmp_path)
