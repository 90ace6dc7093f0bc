"""See every message that one application publishes, before and after it is sent.

Celery's ``before_task_publish`` signal does not say which application publishes and swallows what a receiver
raises; the ``send_task_message`` of the application's own ``amqp`` does neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Publication:
    """One message on its way to the broker.

    ``published`` is monotonic seconds; ``eta`` is ISO 8601 text or ``None``; ``queue`` is the queue's name, or
    ``None`` where only the broker knows it (an exchange and a routing key were given). ``arguments`` are args and
    kwargs, ``time_limits`` the hard and the soft one in seconds.
    """

    id: str
    task: str
    parent: str | None
    retries: int
    eta: str | None
    queue: str | None
    exchange: str | None
    routing_key: str | None
    published: float
    arguments: tuple[Any, Any] = ((), {})
    time_limits: tuple[float | None, float | None] = (None, None)


Before = Callable[[Publication, Any], None]
Failed = Callable[[Publication], None]


def watch(app: Any, before: Before, failed: Failed) -> Callable[[], None]:
    """Call `before` with each :class:`Publication` and its producer, `failed` if it could not be sent.

    What `before` raises stops the publication and reaches the publisher.

    :returns: a function that ends the watch.
    """
    amqp = app.amqp
    watchers = vars(amqp).setdefault(_WATCHERS, [])
    if not watchers:
        _wrap(amqp, watchers)
    watchers.append((before, failed))

    def unwatch() -> None:
        watchers.remove((before, failed))
        if not watchers:
            del amqp.send_task_message

    return unwatch


#: The attribute of an application's ``amqp`` that holds those who watch it. They come and go in any order: a worker in
#: the test's process is restarted while the test watches.
_WATCHERS = "_celerypool_watchers"


def _wrap(amqp: Any, watchers: list[tuple[Before, Failed]]) -> None:
    original = amqp.send_task_message

    def send_task_message(producer: Any, name: str, message: Any, *args: Any, **options: Any) -> Any:
        publication = _describe(amqp, name, message, options)
        told = list(watchers)
        for before, _ in told:
            before(publication, producer)
        try:
            return original(producer, name, message, *args, **options)
        except BaseException:
            for _, failed in told:
                failed(publication)
            raise

    amqp.send_task_message = send_task_message


def _describe(amqp: Any, name: str, message: Any, options: dict[str, Any]) -> Publication:
    # Protocol 2 keeps what describes the task in the headers, protocol 1 in the body.
    about = message.headers if "id" in message.headers else message.body
    queue, exchange = options.get("queue"), options.get("exchange")
    if queue is None and exchange is None:
        queue = amqp.default_queue
    body = message.body
    arguments = (body[0], body[1]) if about is message.headers else (body["args"], body["kwargs"])
    return Publication(
        arguments=arguments,
        time_limits=tuple(about.get("timelimit") or (None, None)),
        id=about["id"],
        task=name,
        parent=about.get("parent_id"),
        retries=about.get("retries") or 0,
        eta=about.get("eta"),
        queue=getattr(queue, "name", queue),
        exchange=getattr(exchange, "name", exchange),
        routing_key=options.get("routing_key"),
        published=time.monotonic(),
    )
