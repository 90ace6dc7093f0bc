"""A worker of the user's on the same virtual host and database, of the same queues, feels nothing of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Foreign, Project

pytestmark = [pytest.mark.services, pytest.mark.alone]

PUBLISHES = """
def test_publishes(celery_pool_worker, tmp_path):
    file = str(tmp_path / "did")
    for queue in ("QUEUE", "QUEUE.routed", "QUEUE.lying"):
        assert write.apply_async((file, queue), queue=queue).get(timeout=10) == queue
"""

PURGES = """
def test_purges(celery_pool_worker):
    app.amqp.queues.add("QUEUE.lying")
    app.control.purge()
"""

CANCELS = """
def test_cancels(celery_pool_worker):
    app.control.revoke("some-id", terminate=True)
    assert len(app.control.cancel_consumer("QUEUE", reply=True, timeout=0.5)) == 1
"""

SHUTS_DOWN = """
import time

def test_shuts_down(celery_pool_worker):
    app.control.shutdown()
    deadline = time.monotonic() + 10
    while celery_pool_worker.launched.death() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


PINGS_FROM_OUTSIDE = """
def test_hears_no_foreign_broadcast(celery_pool_worker):
    from celery import Celery
    own = Celery(broker=SERVER, set_as_current=False)
    own.conf.control_exchange = "QUEUE.control"
    answers = own.control.ping(timeout=0.7)
    own.close()
    assert answers == [{"foreign@here": {"ok": "pong"}}]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, service: Any) -> Iterator[Foreign]:
    """A worker of the user's, which has done one task already, and three messages that lie in a queue."""
    project = Project(tmp_path_factory.mktemp("project")).configured(service.url, "cache+memory://")
    started = Foreign(project, service, tmp_path_factory.mktemp("foreign") / "log")
    assert started.works("before")
    yield started
    started.close()
    service.forget(project.name)


@pytest.fixture(scope="module")
def after_run(foreign: Foreign, service: Any) -> dict[str, int]:
    """The outcomes of a run beside the foreign worker that does everything that must not reach it."""
    tests = PUBLISHES + PURGES + CANCELS + PINGS_FROM_OUTSIDE.replace("SERVER", repr(service.url)) + SHUTS_DOWN
    options = ("--celery-pools=solo", f"--celery-broker={service.url}")
    return foreign.project.tests(tests).run(*options).outcomes


def test_run_is_heard_and_hears_by_itself_alone(after_run: dict[str, int]) -> None:
    """In the run itself everything works, and a broadcast of the user's own reaches no worker of it."""
    assert after_run == {"passed": 5}


@pytest.mark.usefixtures("after_run")
def test_foreign_worker_lives(foreign: Foreign) -> None:
    """Broadcasts of the run, shutdown and cancel_consumer among them, leave the foreign worker at its work."""
    assert foreign.works("after")


@pytest.mark.usefixtures("after_run")
def test_foreign_worker_got_no_task(foreign: Foreign) -> None:
    """Tasks published to queues of the same names never reached the foreign worker."""
    assert foreign.received() == len(foreign.has_done())
    assert set(foreign.has_done()) <= {"before", "after"}


@pytest.mark.usefixtures("after_run")
def test_lying_messages_stay(foreign: Foreign, service: Any) -> None:
    """Messages that lay in a queue of the same name were neither consumed nor purged."""
    assert service.lying(foreign.lying) == 3


def test_settings_of_the_users_server_do_not_matter(foreign: Foreign, service: Any) -> None:
    """With the embedded server nothing goes where any setting of the application points."""
    urls = [f"{name} = {service.url!r}" for name in ("broker_read_url", "broker_write_url")]
    options = "{'global_keyprefix': 'mine.'}" if service.name == "redis" else "{'confirm_publish': True}"
    foreign.project.configured(service.url, "rpc://", *urls, f"broker_transport_options = {options}")
    assert untouched(foreign, service)


def test_environment_does_not_matter(foreign: Foreign, service: Any) -> None:
    """With the embedded server nothing goes where the environment points."""
    environment = {"CELERY_BROKER_URL": service.url, "CELERY_RESULT_BACKEND": "rpc://"}
    assert untouched(foreign, service, **environment)


def untouched(foreign: Foreign, service: Any, **environment: str) -> bool:
    """Run on the embedded server; says whether all passed and the user's server is as it was."""
    foreign.project.tests(PUBLISHES + PURGES + CANCELS)

    def facts() -> tuple[object, ...]:
        return service.lying(foreign.lying), service.everything(), foreign.received()

    before = facts()
    outcomes = foreign.project.run("--celery-pools=solo", **environment).outcomes
    return (outcomes, facts()) == ({"passed": 3}, before)


def test_ssl_settings_do_not_matter(project: Project) -> None:
    """SSL settings belong to the user's server; a run on the embedded one does without."""
    url, ssl = "rediss://127.0.0.1:1/0", "{'ssl_cert_reqs': 0}"
    project.configured(url, url, f"broker_use_ssl = {ssl}", f"redis_backend_use_ssl = {ssl}").tests(PUBLISHES)
    assert project.run("--celery-pools=solo").outcomes == {"passed": 1}
