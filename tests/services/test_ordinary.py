"""An ordinary project's tests pass on the user's own Redis or RabbitMQ as they do on the embedded server."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Project, RabbitService, RedisService

pytestmark = pytest.mark.services

REDIS, AMQP = RedisService.url, RabbitService.url

BASIC = """
def test_delay(celery_pool_worker):
    assert add.delay(1, 2).get(timeout=10) == 3

def test_group(celery_pool_worker):
    from celery import group
    assert group(add.s(i, i) for i in range(3))().get(timeout=10) == [0, 2, 4]

def test_retry(celery_pool_worker):
    assert stubborn.delay().get(timeout=10) == 2

def test_countdown(celery_pool_worker):
    assert add.apply_async((1, 2), countdown=0.1).get(timeout=10) == 3

def test_routed(celery_pool_worker):
    assert routed.delay().get(timeout=10) == "routed"

def test_send_task_to_a_queue_of_its_own(celery_pool_worker):
    assert app.send_task("shop.add", (1, 2), queue="QUEUE.other").get(timeout=10) == 3

def test_ping(celery_pool_worker):
    name = celery_pool_worker.hostname
    assert app.control.inspect([name], timeout=5).ping() == {name: {"ok": "pong"}}

def test_revoke(celery_pool_worker):
    from celery.exceptions import TaskRevokedError
    app.control.revoke("the-id", reply=True, destination=[celery_pool_worker.hostname], timeout=5)
    with pytest.raises(TaskRevokedError):
        add.apply_async((1, 2), task_id="the-id").get(timeout=10)
"""

DELAY = """
def test_delay(celery_pool_worker):
    assert add.delay(1, 2).get(timeout=10) == 3
"""

CHORD = """
def test_chord(celery_pool_worker):
    from celery import chord
    assert chord([add.s(i, i) for i in range(3)])(total.s()).get(timeout=10) == 6
"""


def passes(project: Project, tests: str, *options: str) -> bool:
    result = project.tests(tests).run(*options)
    return result.status == 0 and result.outcomes.keys() == {"passed"}


@pytest.mark.parametrize(
    ("broker", "backend", "pools"),
    [
        (REDIS, REDIS, "prefork,solo,gevent"),
        (AMQP, "embedded", "prefork,solo,gevent"),
        # What a URL leaves out is what kombu takes for it.
        ("redis://localhost", "embedded", "solo"),
        ("amqp://localhost", REDIS, "solo"),
    ],
    ids=["redis-redis", "amqp-embedded", "redis-embedded", "amqp-redis"],
)
@pytest.mark.usefixtures("redis_service", "rabbit_service")
def test_by_url(project: Project, broker: str, backend: str, pools: str) -> None:
    """Broker and backend given by URL serve every way to use tasks."""
    options = (f"--celery-pools={pools}", f"--celery-broker={broker}", f"--celery-backend={backend}")
    assert passes(project, BASIC + CHORD, *options)


@pytest.mark.slow
@pytest.mark.usefixtures("redis_service")
def test_all_pools(project: Project, service: Any) -> None:
    """All five pools."""
    options = ("--celery-pools=all", f"--celery-broker={service.url}", f"--celery-backend={REDIS}")
    assert passes(project, BASIC + CHORD, *options)


@pytest.mark.usefixtures("rabbit_service")
def test_results_over_rabbitmq(project: Project) -> None:
    """With rpc:// the results come back over RabbitMQ, which knows no chords."""
    assert passes(project, BASIC, "--celery-pools=solo", f"--celery-broker={AMQP}", "--celery-backend=rpc://")


@pytest.mark.parametrize(
    ("broker", "backend", "limit"), [(REDIS, REDIS, 0), (AMQP, "rpc://", None)], ids=["redis", "amqp"]
)
@pytest.mark.usefixtures("redis_service", "rabbit_service")
def test_the_applications_own(project: Project, broker: str, backend: str, limit: int | None) -> None:
    """With `app` for both the application keeps its own servers, and its own way to pool connections."""
    project.configured(broker, backend, f"broker_pool_limit = {limit}")
    assert passes(project, BASIC, "--celery-pools=solo", "--celery-broker=app", "--celery-backend=app")


@pytest.mark.parametrize("way", ["app", "url"])
def test_failover(project: Project, service: Any, way: str) -> None:
    """Of several URLs the first that answers serves, whether the application or the option gives them."""
    dead = service.url.replace(":6379", ":1").replace(":5672", ":1")
    project.configured([dead, service.url], "cache+memory://")
    broker = "app" if way == "app" else f"{dead};{service.url}"
    assert passes(project, DELAY, "--celery-pools=solo", f"--celery-broker={broker}")


def test_what_runs_before_a_restarted_worker_is_ready(project: Project, service: Any) -> None:
    """On RabbitMQ a solo worker runs what is queued before Celery calls it ready: the test sees that too."""
    tests = (
        "def test_restart(celery_pool_worker):\n"
        "    celery_pool_worker.stop()\n"
        "    result = add.delay(1, 2)\n"
        "    celery_pool_worker.restart()\n"
        "    celery_pool_worker.drain()\n"
        "    assert [span.id for span in celery_pool_worker.spans] == [result.id]\n"
    )
    assert passes(project, tests, "--celery-pools=solo", f"--celery-broker={service.url}")


BROADCAST = """
@pytest.fixture
def noted_names():
    "No test of a cluster may have a worker beside it."

def test_one_worker(celery_pool_worker):
    add.apply_async((1, 2), queue="everywhere")
    celery_pool_worker.drain()
    assert len(celery_pool_worker.spans) == 1

def test_two_workers(celery_pool_cluster):
    workers = celery_pool_cluster({name: {"pool": "solo", "queues": ["everywhere"]} for name in ("one", "two")})
    add.apply_async((1, 2), queue="everywhere")
    workers.drain()
    assert sorted(span.worker for span in workers.spans) == ["one", "two"]
"""


@pytest.mark.usefixtures("rabbit_service")
def test_a_broadcast_runs_once_in_each_worker(project: Project) -> None:
    """Under the name of a Broadcast each worker has a queue of its own; that all run the task is no duplicate."""
    shop = project.path / "shop.py"
    queues = 'app.conf.task_queues = [Queue(app.conf.task_default_queue), Broadcast("everywhere")]\n'
    shop.write_text(f"{shop.read_text()}\nfrom kombu import Queue\nfrom kombu.common import Broadcast\n{queues}")
    assert passes(project, BROADCAST, "--celery-pools=solo", f"--celery-broker={AMQP}")


@pytest.mark.slow
def test_xdist(project: Project, service: Any) -> None:
    """Two nodes of xdist share a server and never meet."""
    tests = (
        "@pytest.mark.parametrize('number', range(6))\n"
        "def test_add(celery_pool_worker, number):\n"
        "    assert add.delay(number, 1).get(timeout=10) == number + 1\n"
        "    assert len(celery_pool_worker.spans) == 1\n"
    )
    assert passes(project, tests, "-n", "2", "--celery-pools=solo", f"--celery-broker={service.url}")


def test_names_are_the_users(project: Project, service: Any) -> None:
    """Settings and delivery information show the application's own names."""
    tests = (
        "def test_names(celery_pool_worker):\n"
        "    assert app.conf.task_default_queue == 'QUEUE'\n"
        "    assert app.conf.control_exchange == 'QUEUE.control'\n"
        # Sooner than kombu's hub would look again, which may wait for ten seconds.
        "    assert addressed.apply_async(queue='QUEUE.x').get(timeout=5)[:2] == ['', 'QUEUE.x']\n"
    )
    assert passes(project, tests, "--celery-pools=solo", f"--celery-broker={service.url}")
