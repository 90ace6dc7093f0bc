"""What a test's report carries for ``--celery-advise`` beside its evidence: time limits, what a stress pass took."""

from __future__ import annotations

from typing import Any

from pytest_celerypool.application import locate
from pytest_celerypool.errors import WorkerError
from pytest_celerypool.markers import matches
from pytest_celerypool.verdict import evidence
from pytest_celerypool.worker import WorkerHandle


def testify(handle: WorkerHandle, app: str | None) -> dict[str, Any]:
    """Return plain data on the tasks of a test.

    :param handle: of its worker; all that ends has ended.
    :param app: the application, as for ``celery -A``, if an option names it.
    :returns: ``app``, ``pool``, ``limits`` (each task's hard and soft time limit in seconds), and ``stressed``, the
        evidence of the stress pass.
    """
    names = dict.fromkeys(span.task for span in handle.ledger.spans)
    names |= dict.fromkeys(entry.task for entry in handle.ledger.tasks.values())
    return {
        "app": app or _located(handle.app),
        "pool": handle.pool.name,
        "limits": {name: _limits(handle, name) for name in names if matches("*", name) and name in handle.app.tasks},
        "stressed": [
            found
            for found in evidence.of_test(
                handle.stressed,
                pool=handle.pool.name,
                column=handle.pool.name,
                concurrency=handle.concurrency,
                memory=handle.launched.memory() if handle.stressed else None,
            )
            if matches("*", found["task"])
        ],
    }


def _located(app: Any) -> str:
    try:
        source = locate(app)
    except WorkerError:
        return ""  # made in a fixture: no worker of another process can have it
    return f"{source['module']}:{source['attribute']}"


def _limits(handle: WorkerHandle, name: str) -> tuple[float | None, float | None]:
    """Return the hard and the soft time limit of a task, of a message or else of the task or the application."""
    task = handle.app.tasks[name]
    hard = soft = None
    for publication in handle.sent:
        if publication.task == name:
            hard, soft = publication.time_limits[0] or hard, publication.time_limits[1] or soft
    return hard or task.time_limit, soft or task.soft_time_limit
