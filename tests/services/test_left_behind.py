"""Nothing of a run is left on the user's servers, however the run ended."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from servers import DEADLINE, Project, RabbitService, RedisService, until

pytestmark = [pytest.mark.services, pytest.mark.alone]

USES_EVERYTHING = """
def test_uses(celery_pool_worker):
    add.apply_async((1, 2), queue="QUEUE.left", countdown=3600)
    assert stubborn.delay().get(timeout=10) == 2
    assert routed.delay().get(timeout=10) == "routed"
    app.control.inspect(timeout=0.3).ping()
    with app.connection_for_write() as connection:
        # Nobody will ever consume these.
        app.amqp.queues.add("QUEUE.unread")
        connection.default_channel.queue_declare("QUEUE.bare", durable=True, auto_delete=False)
        connection.SimpleQueue("QUEUE.simple").put("stays")
"""
FAILS = (
    USES_EVERYTHING
    + """
    assert False
"""
)
HANGS = (
    USES_EVERYTHING
    + """

def test_hangs(celery_pool_worker):
    import time
    open("hanging", "w").close()
    time.sleep(60)
"""
)


def options(service: Any) -> list[str]:
    backend = RedisService.url if service.name == "redis" else "rpc://"
    return ["--celery-pools=solo", f"--celery-broker={service.url}", f"--celery-backend={backend}"]


def left(service: Any, project: Project, before: Any) -> list[object]:
    """What there is on the server that was not there before the run."""
    if isinstance(service, RabbitService):
        return [pair for pair in project.declared() if service.exists(*pair)]
    return list(service.everything() - before)


@pytest.mark.parametrize(
    ("tests", "extra"),
    [
        (USES_EVERYTHING, ()),
        (FAILS, ("-x",)),
        pytest.param(USES_EVERYTHING, ("-n", "2"), marks=pytest.mark.slow),
    ],
    ids=["passed", "failed", "xdist"],
)
def test_nothing_after_a_run(project: Project, service: Any, tests: str, extra: tuple[str, ...]) -> None:
    """A run that passes, that fails and stops, that is spread over nodes: everything it made is gone."""
    before = service.everything()
    project.tests(tests).run(*options(service), *extra)
    assert left(service, project, before) == []


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT],
    ids=["SIGKILL", "SIGTERM", "SIGINT"],
)
def test_nothing_after_a_signal(project: Project, service: Any, number: signal.Signals) -> None:
    """A pytest that is killed or interrupted in the middle: everything it made is gone a little later."""
    before = service.everything()
    process = project.tests(HANGS).start(*options(service))
    until(lambda: (project.path / "hanging").exists() or process.poll() is not None, "the test hangs")
    made = left(service, project, before)
    process.send_signal(number)
    process.communicate(timeout=DEADLINE)
    until(lambda: left(service, project, before) == [], "the run's names are gone")
    assert made != []


def test_run_notes_what_it_declares(project: Project, rabbit_service: RabbitService) -> None:
    """On the wire every name begins with the run's prefix: queues, exchanges, control and events."""
    project.tests(USES_EVERYTHING).run(*options(rabbit_service))
    names = {name for _, name in project.declared()}
    own = {name.split(".", 3)[3] for name in names if name.startswith("celerypool.")}
    assert {name for name in names if not name.startswith(("celerypool.", "amq.gen-"))} == set()
    assert {project.queue, f"{project.queue}.routed", f"{project.queue}.control.pidbox"} <= own


def test_queues_expire(project: Project, rabbit_service: RabbitService) -> None:
    """RabbitMQ itself deletes the run's queues one day, should nobody else."""
    tests = (
        "def test_declared_otherwise(celery_pool_worker):\n"
        "    import amqp\n"
        "    prefix = celery_pool_worker.launched.target['prefix']\n"
        "    with amqp.Connection('127.0.0.1:5672') as plain, pytest.raises(amqp.PreconditionFailed) as refused:\n"
        "        plain.channel().queue_declare(prefix + 'QUEUE', durable=True, auto_delete=False)\n"
        "    assert \"inequivalent arg 'x-expires'\" in str(refused.value)\n"
        "    assert \"current is the value '21600000'\" in str(refused.value)\n"
    )
    assert project.tests(tests).run(*options(rabbit_service)).outcomes == {"passed": 1}


@pytest.mark.slow
def test_native_delayed_delivery_stays_in_the_run(project: Project, rabbit_service: RabbitService) -> None:
    """Quorum queues bring dozens of queues and exchanges for their delays, all of the run's own, all gone."""
    quorum = ("task_default_queue_type = 'quorum'", "task_default_exchange_type = 'topic'")
    project.configured("memory://", "cache+memory://", *quorum)
    tests = (
        "def test_countdown(celery_pool_worker):\n"
        "    assert add.apply_async((1, 2), countdown=1).get(timeout=15) == 3\n"
    )
    result = project.tests(tests).run("--celery-pools=solo", f"--celery-broker={rabbit_service.url}")
    assert result.outcomes == {"passed": 1}
    levels = [pair for pair in project.declared() if "celery_delayed_" in pair[1]]
    assert (len(levels) > 50, [pair for pair in project.declared() if rabbit_service.exists(*pair)]) == (True, [])
