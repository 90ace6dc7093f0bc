"""A server that cannot be used is said so at once, clearly, and without its password."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Project, RabbitService, RedisService, until

pytestmark = pytest.mark.services

TESTS = """
def test_one(celery_pool_worker):
    pass

def test_two(celery_pool_worker):
    pass
"""

SECONDS = 5.0


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def locked_port(tmp_path: Path) -> Iterator[int]:
    """A Redis that wants a password."""
    from pytest_celerypool.broker.embedded import find_server

    port = unused_port()
    process = subprocess.Popen(
        [find_server(), "--port", str(port), "--requirepass", "right", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, "the Redis with a password listens")
    yield port
    process.kill()
    process.wait(SECONDS)


def refused(project: Project, *options: str) -> str:
    """Run two tests, which must both fail with exit status 1 in good time; returns all that was printed.

    Two, because the second must not fail otherwise than the first.
    """
    began = time.monotonic()
    result = project.tests(TESTS).run("--celery-pools=solo", *options)
    took = time.monotonic() - began
    print(f"took {took:.1f} s")
    assert (result.status, result.outcomes.get("errors"), took < SECONDS) == (1, 2, True)
    return result.output


@pytest.mark.parametrize(("end", "scheme"), [("broker", "redis"), ("broker", "amqp"), ("backend", "redis")])
def test_nobody_listens(project: Project, end: str, scheme: str) -> None:
    """A port that nobody listens on: the option, the server, the reason, and the way without."""
    server = f"127.0.0.1:{unused_port()}"
    text = refused(project, f"--celery-{end}={scheme}://me:secret@{server}/")
    said = f"--celery-{end}={scheme}://me:**@{server}/: connection refused. Is the server running?"
    assert f"{said} --celery-{end}=embedded, the default, needs none." in text


@pytest.mark.usefixtures("rabbit_service")
def test_wrong_password_of_rabbitmq(project: Project) -> None:
    """RabbitMQ refuses the password: the message says what to check, and does not show it."""
    text = refused(project, "--celery-broker=" + RabbitService.url.replace(":guest@", ":geheim@"))
    assert ("authentication refused" in text, "the password in the URL" in text, "geheim" in text) == (
        True,
        True,
        False,
    )


def test_wrong_password_of_redis(project: Project, locked_port: int) -> None:
    """Redis refuses the password: the message says what to check, and does not show it."""
    text = refused(project, f"--celery-broker=redis://:geheim@127.0.0.1:{locked_port}/0")
    assert ("authentication refused" in text, "the password in the URL" in text, "geheim" in text) == (
        True,
        True,
        False,
    )


@pytest.mark.usefixtures("rabbit_service")
def test_unknown_virtual_host(project: Project) -> None:
    """A virtual host that does not exist is named."""
    assert "vhost nosuch not found" in refused(project, "--celery-broker=amqp://guest:guest@127.0.0.1:5672/nosuch")


@pytest.mark.usefixtures("redis_service")
def test_unknown_database(project: Project) -> None:
    """A database beyond those that the server has is said so."""
    assert "DB index is out of range" in refused(project, f"--celery-broker={RedisService.url}9999")


def test_server_of_the_application(project: Project) -> None:
    """With `app` the message says that the server is the application's own."""
    server = f"127.0.0.1:{unused_port()}"
    project.configured(f"redis://:secret@{server}/0", "cache+memory://")
    text = refused(project, "--celery-broker=app")
    assert f"--celery-broker=app, the application's own redis://:**@{server}/0: connection refused" in text


def test_silent_server(project: Project) -> None:
    """A server that takes the connection and says nothing is given a second."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}//"
        assert "no answer within 1 s" in refused(project, f"--celery-broker={url}")
