"""Names of a run's own on RabbitMQ: what an application declares, binds and publishes stays in a namespace.

RabbitMQ has nothing like Redis's ``global_keyprefix``. This transport gives every queue and exchange a prefix
where its name reaches the wire, and takes it away where it comes back. The application, its configuration and
``task.request.delivery_info`` show the user's own names; a broadcast of a test reaches only the workers of
the same namespace; nothing of another application on the same virtual host is declared, read or deleted.

The namespace comes in the transport options, which kombu hands to :class:`Connection` as keyword arguments.
Used in pytest's process and in workers, patched by gevent or eventlet or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from amqp import spec
from kombu.transport import pyamqp

EXPIRES = 6 * 60 * 60 * 1000
"""Milliseconds after which RabbitMQ deletes a queue that nobody consumes, if all our clean-up was prevented.

Long, because it also deletes the queues that have no consumer by their nature (the levels of native delayed
delivery, dead letters) under a worker that still runs: no run may be longer than this.
"""

LONGEST_NAME = 255
"""Bytes that AMQP allows for a name."""

# The exchanges that every virtual host has. They are shared by all its applications, so a namespace gets its
# own of the same type; nobody declares them, so this transport must.
_BUILT_IN = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}

# Which arguments of an outgoing method are names. The methods themselves are mapped, not the Python functions
# that send them: with publisher confirms kombu replaces basic_publish on the instance.
_NAMES: dict[tuple[int, int], tuple[int, ...]] = {
    spec.Exchange.Declare: (1,),
    spec.Exchange.Delete: (1,),
    spec.Exchange.Bind: (1, 2),
    spec.Exchange.Unbind: (1, 2),
    spec.Queue.Declare: (1,),
    spec.Queue.Bind: (1, 2),
    spec.Queue.Unbind: (1, 2),
    spec.Queue.Purge: (1,),
    spec.Queue.Delete: (1,),
    spec.Basic.Publish: (1,),
    spec.Basic.Consume: (1,),
    spec.Basic.Get: (1,),
}
_DEATH_NAMES = (
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-last-death-exchange",
    "x-last-death-queue",
)
_EXCHANGE_ARGUMENTS, _QUEUE_PASSIVE, _QUEUE_ARGUMENTS = 8, 2, 7
_ROUTING_KEY = 2


class Namespace:
    """The names of one namespace as the server sees them, and the file that lists what was declared.

    :param prefix: what every name of the namespace begins with.
    :param log: path of the file to append declared names to, one a line, ``queue NAME`` or ``exchange NAME``;
        there is no way to ask RabbitMQ for them over AMQP.
    """

    def __init__(self, prefix: str, log: str) -> None:
        self.prefix = prefix
        self._log = log
        self._logged: set[str] = set()
        self._stated = re.compile(re.escape(prefix))

    def wire(self, name: str) -> str:
        """Return `name` as the server shall see it; raises :exc:`ValueError` if it becomes too long.

        The nameless exchange, server-named queues (``amq.gen-…``) and pseudo-queues (``amq.rabbitmq.…``) keep
        their names.
        """
        if not name or name.startswith(self.prefix) or (name.startswith("amq.") and name not in _BUILT_IN):
            return name
        wire = self.prefix + name
        if len(wire.encode()) > LONGEST_NAME:
            raise ValueError(
                f"the name {name!r} is too long to be isolated: it may have "
                f"{LONGEST_NAME - len(self.prefix)} bytes, as AMQP allows {LONGEST_NAME} with the prefix"
            )
        return wire

    def own(self, name: str) -> str:
        """Return the application's own name for one that came from the server."""
        return name.removeprefix(self.prefix)

    def unprefixed(self, text: str) -> str:
        """Return a text of the server, such as an error, with the application's own names."""
        return self._stated.sub("", text)

    def declared(self, kind: str, name: str) -> None:
        """Note that the queue or exchange (`kind`) called `name` on the server is the run's to delete."""
        line = f"{kind} {name}\n"
        if line not in self._logged:
            # Unbuffered, so that lines of several processes do not mix; os.write is replaced by eventlet.
            with open(self._log, "ab", buffering=0) as file:
                file.write(line.encode())
            self._logged.add(line)


if TYPE_CHECKING:
    # amqp has no types of its own, and a class may not derive from Any.
    class _Channel:
        connection: Any
        send_method: Callable[..., Any]
        exchange_declare: Callable[..., Any]
        queue_declare: Callable[..., Any]
        _on_basic_deliver: Callable[..., Any]
        _on_get_ok: Callable[..., Any]
        _on_basic_return: Callable[..., Any]
        _on_close: Callable[..., Any]

    class _Connection:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    class _Transport:
        Connection: type[_Connection]
        client: Any

        def __init__(self, client: Any, **kwargs: Any) -> None: ...

    class _SSLTransport(_Transport): ...

else:
    _Channel, _Connection = pyamqp.Channel, pyamqp.Connection
    _Transport, _SSLTransport = pyamqp.Transport, pyamqp.SSLTransport


class Channel(_Channel):
    """A channel that maps names on their way out and back."""

    @property
    def _namespace(self) -> Namespace:
        namespace: Namespace = self.connection.namespace
        return namespace

    def send_method(
        self,
        sig: tuple[int, int],
        format: str | None = None,  # noqa: A002 - amqp's name for it
        args: Any = None,
        content: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Send one method with its names mapped."""
        positions = _NAMES.get(sig)
        if positions is not None and self.connection is not None:
            args = self._mapped(sig, list(args), positions, content)
        return super().send_method(sig, format, args, content, **kwargs)

    def _mapped(self, sig: tuple[int, int], args: list[Any], positions: tuple[int, ...], content: Any) -> list[Any]:
        names = self._namespace
        if sig == spec.Queue.Declare:
            args[_QUEUE_ARGUMENTS] = self._queue_arguments(args[_QUEUE_ARGUMENTS])
            if args[1] and not args[_QUEUE_PASSIVE]:
                # Noted before it exists, so that nothing can exist unnoted.
                names.declared("queue", names.wire(args[1]))
        elif sig == spec.Exchange.Declare:
            args[_EXCHANGE_ARGUMENTS] = self._exchange_arguments(args[_EXCHANGE_ARGUMENTS])
            names.declared("exchange", names.wire(args[1]))
        elif sig == spec.Basic.Publish and not args[1]:
            # Through the nameless exchange the routing key is the name of a queue.
            args[_ROUTING_KEY] = names.wire(args[_ROUTING_KEY])
            self._map_copies(content)
        for position in positions:
            self._own_built_in(args[position])
            args[position] = names.wire(args[position])
        return args

    def _own_built_in(self, name: str) -> None:
        """Declare the namespace's own exchange for one that every virtual host has."""
        wanted = _BUILT_IN.get(name)
        declared: set[str] = self.connection.built_in
        if wanted is not None and name not in declared:
            declared.add(name)
            self.exchange_declare(name, wanted, durable=True, auto_delete=False)

    def _queue_arguments(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        mapped = dict(arguments or {})
        # A stream may not expire.
        if mapped.get("x-queue-type") != "stream":
            mapped.setdefault("x-expires", EXPIRES)
        if "x-dead-letter-exchange" in mapped:
            exchange = mapped["x-dead-letter-exchange"]
            if not exchange and mapped.get("x-dead-letter-routing-key"):
                mapped["x-dead-letter-routing-key"] = self._namespace.wire(mapped["x-dead-letter-routing-key"])
            self._own_built_in(exchange)
            mapped["x-dead-letter-exchange"] = self._namespace.wire(exchange)
        return mapped

    def _exchange_arguments(self, arguments: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if not arguments or "alternate-exchange" not in arguments:
            return None if arguments is None else dict(arguments)
        self._own_built_in(arguments["alternate-exchange"])
        return {**arguments, "alternate-exchange": self._namespace.wire(arguments["alternate-exchange"])}

    def _map_copies(self, message: Any) -> None:
        """Map the further routing keys of a message to the nameless exchange, which are queues too."""
        headers = message.properties.get("application_headers") or {}
        copies = {
            key: [self._namespace.wire(name) for name in headers[key]]
            for key in ("CC", "BCC")
            if isinstance(headers.get(key), (list, tuple))
        }
        if copies:
            message.properties["application_headers"] = {**headers, **copies}

    def queue_declare(self, *args: Any, **kwargs: Any) -> Any:
        """Declare a queue; returns its own name, message and consumer counts, or ``None`` with ``nowait``."""
        answer = super().queue_declare(*args, **kwargs)
        if answer is None:
            return None
        if answer.queue.startswith("amq."):
            self._namespace.declared("queue", answer.queue)
        return answer._replace(queue=self._namespace.own(answer.queue))

    def _on_basic_deliver(
        self,
        consumer_tag: str,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        msg: Any,
    ) -> None:
        own = self._namespace.own
        self._strip_deaths(msg)
        super()._on_basic_deliver(consumer_tag, delivery_tag, redelivered, own(exchange), own(routing_key), msg)

    def _on_get_ok(
        self,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        message_count: int,
        msg: Any,
    ) -> Any:
        own = self._namespace.own
        self._strip_deaths(msg)
        return super()._on_get_ok(delivery_tag, redelivered, own(exchange), own(routing_key), message_count, msg)

    def _on_basic_return(self, reply_code: int, reply_text: str, exchange: str, routing_key: str, message: Any) -> None:
        own = self._namespace.own
        super()._on_basic_return(reply_code, reply_text, own(exchange), own(routing_key), message)

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        super()._on_close(reply_code, self._namespace.unprefixed(reply_text), class_id, method_id)

    def _strip_deaths(self, message: Any) -> None:
        """Show own names in the headers with which RabbitMQ tells how a message was dead-lettered."""
        headers = message.properties.get("application_headers")
        if not headers or "x-death" not in headers:
            return
        own = self._namespace.own
        for key in _DEATH_NAMES:
            if key in headers:
                headers[key] = own(headers[key])
        for death in headers["x-death"]:
            death.update({key: own(death[key]) for key in ("queue", "exchange") if key in death})
            death["routing-keys"] = [own(key) for key in death.get("routing-keys", ())]


class Connection(_Connection):
    """A connection whose channels live in one namespace.

    :param celerypool_prefix: what every name of the namespace begins with.
    :param celerypool_log: path of the file to append declared names to.
    :param authentication: not for us. A connection of another class takes this option too and fails on it:
        kombu goes back to its own transport when it fails over to another URL, and a test would then talk to
        the user's own queues.
    """

    Channel = Channel

    def __init__(
        self,
        *args: Any,
        celerypool_prefix: str,
        celerypool_log: str,
        authentication: Any = None,
        **kwargs: Any,
    ) -> None:
        self.namespace = Namespace(celerypool_prefix, celerypool_log)
        self.built_in: set[str] = set()
        super().__init__(*args, **kwargs)


def _stay(client: Any) -> None:
    """Have a kombu connection that fails over to another URL keep the transport that it has.

    Without this it takes the transport of the URL's scheme; see ``authentication`` of :class:`Connection`.
    """
    if "switch" in vars(client):
        return
    original, transport = client.switch, client.transport_cls

    def switch(url: str) -> None:
        original(url)
        client.transport_cls = transport

    client.switch = switch


class Transport(_Transport):
    """kombu's ``amqp`` transport in a namespace."""

    Connection = Connection
    scheme = "amqp"

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # kombu knows a transport of ours by the path of its class, and would show that for a scheme.
        # Asked of the class this says whether it parses URLs, which kombu does for it; asked of an instance,
        # whether it shows them itself.
        self.can_parse_url = True
        _stay(client)

    def as_uri(self, _hostname: str, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL that kombu's own transport has, its virtual host written as the AMQP URI scheme wants."""
        from kombu.utils.url import as_url, safequote

        known = self.client.info()
        return str(
            as_url(
                self.scheme,
                known["hostname"],
                known["port"],
                known["userid"],
                known["password"],
                safequote(known["virtual_host"]),
                sanitize=not include_password,
                mask=mask,
            )
        )


class SSLTransport(Transport, _SSLTransport):
    """kombu's ``amqps`` transport in a namespace."""

    scheme = "amqps"
