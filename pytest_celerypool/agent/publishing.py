"""See every message that one application publishes, before and after it is sent.

Celery's ``before_task_publish`` signal does not say which application publishes and swallows what a receiver
raises; the ``send_task_message`` of the application's own ``amqp`` does neither.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Route(NamedTuple):
    """How a message goes that is given to an exchange.

    :ivar kind: the type of the exchange, as far as the application's queues tell; else empty.
    """

    exchange: str
    key: str
    kind: str = ""


class Binding(NamedTuple):
    """What a queue gets of an exchange.

    :ivar kind: the type of the exchange.
    """

    queue: str
    exchange: str
    kind: str
    key: str

    def takes(self, route: Route) -> bool:
        """Whether the queue gets what goes that way."""
        return self.exchange == route.exchange and _matches(self.kind, self.key, route.key)


@dataclass(frozen=True)
class Publication:
    """One message on its way to the broker.

    ``published`` is monotonic seconds; ``eta`` is ISO 8601 text or ``None``; ``queue`` is the name of the queue that
    gets it, or ``None`` where only the broker may know one. ``through`` is ``None`` where the message goes to that
    queue alone, as mostly, and no exchange may copy it. ``route`` is the same if Celery does not declare the queue with
    the message, else ``None``. ``arguments`` are args and kwargs, ``time_limits`` the hard and the soft one in seconds.
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
    route: Route | None = None
    through: Route | None = None


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
    queue, through, declared = _destination(amqp, options)
    route = None if declared else through
    exchange, routing_key = (options.get("exchange"), options.get("routing_key")) if route is None else route[:2]
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
        queue=queue,
        exchange=getattr(exchange, "name", exchange),
        routing_key=routing_key,
        published=time.monotonic(),
        route=route,
        through=through,
    )


def _destination(amqp: Any, options: Mapping[str, Any]) -> tuple[str | None, Route | None, bool]:
    """Return the name of the queue that a message reaches, the way if an exchange hands it on, and whether it is sure.

    It is if Celery declares the queue with the message. Celery's router adds the default queue to whatever names none,
    an exchange included. ``send_task_message`` then declares that queue, and leaves the message to the exchange. A
    ``Broadcast`` it does not declare: under its name every process has a queue of its own.
    """
    from kombu.common import Broadcast

    exchange, key = options.get("exchange"), options.get("routing_key")
    queue: Any = options.get("queue")
    if queue is None and exchange is None:
        queue = amqp.default_queue
    if isinstance(queue, str):
        queue = _named(amqp.queues, queue)
    if not exchange and not key and not _hands_on(queue):
        return getattr(queue, "name", queue), None, True
    own = getattr(queue, "exchange", None)
    if (not exchange or not key) and (options.get("exchange_type") or getattr(own, "type", "direct")) == "direct":
        return getattr(queue, "name", queue), None, True
    name = str(getattr(exchange, "name", exchange) or getattr(own, "name", ""))
    key = str(key or getattr(queue, "routing_key", "") or "")
    if not name:
        return key, None, True
    known = [binding for each in list(amqp.queues.values()) for binding in bindings_of(each)]
    known = [each for each in known if each.exchange == name]
    kinds = [getattr(exchange, "type", None), *(each.kind for each in known), ""]
    route = Route(name, key, next(str(each) for each in kinds if each is not None))
    if isinstance(queue, Broadcast):
        return None, route, False
    if any(each.takes(route) for each in bindings_of(queue)):
        return str(queue.name), route, True
    return next((each.queue for each in known if each.takes(route)), None), route, False


def _named(queues: Any, name: str) -> Any:
    """Return the queue that an application knows by a name, or by an alias; else the name."""
    try:
        return queues.aliases[name] if name in queues.aliases else dict.__getitem__(queues, name)
    except KeyError:
        return name


def _hands_on(queue: Any) -> bool:
    """Whether a message to a queue goes to the queue's exchange, as Celery sends it unless that is a direct one."""
    return getattr(getattr(queue, "exchange", None), "type", "direct") != "direct"


def bindings_of(queue: Any) -> Iterator[Binding]:
    """Yield what a queue gets once it is declared.

    :param queue: of kombu's; anything else, as a name, has no bindings.
    """
    for each in (queue, *(getattr(queue, "bindings", None) or ())):
        exchange = getattr(each, "exchange", None)
        if exchange is not None:
            kind = str(exchange.type or "direct")
            yield Binding(str(queue.name), str(exchange.name), kind, str(each.routing_key or ""))


def _matches(kind: str, bound: str, key: str) -> bool:
    """Whether an exchange of type `kind` hands a routing key on to what is bound with another.

    One of a type that only the broker knows is taken to do so: nothing must be called lost that is not.
    """
    if kind == "direct":
        return bound == key
    if kind != "topic":
        return True
    words = {"*": r"[^.]+", "#": r".*"}
    pattern = r"\.".join(words.get(word, re.escape(word)) for word in bound.split("."))
    # A hash stands for no word too, and then takes the dot beside it along.
    pattern = pattern.replace(r"\..*", r"(\..*)?").replace(r".*\.", r"(.*\.)?")
    return re.fullmatch(pattern, key) is not None
