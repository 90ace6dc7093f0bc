"""What is known of a message before it is sent: which queue it reaches."""

import pytest
from celery import Celery
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

from pytest_celerypool.agent import publishing
from pytest_celerypool.agent.publishing import Route

TOPIC = Exchange("ax", type="topic")


class NotSentError(Exception):
    """Stops a publication."""


@pytest.fixture
def publish():
    """Publishes a task with options as far as the watch, and returns what that was told."""
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.task_queues = [
        Queue("a", TOPIC, routing_key="a.#"),
        Queue("b"),
        Queue("c", bindings=[binding(Exchange("cx"), routing_key="c"), binding(Exchange("dx"), routing_key="d")]),
        Queue("f", Exchange("fx", type="fanout")),
        Broadcast("all"),
    ]
    app.conf.task_default_queue = "b"
    app.conf.task_routes = {"proj.routed": {"exchange": "ax", "routing_key": "a.route"}}

    def before(publication, producer):
        told.append(publication)
        raise NotSentError

    told = []
    publishing.watch(app, before, told.append)

    def publish(name="proj.add", **options):
        with pytest.raises(NotSentError):
            app.send_task(name, **options)
        return told[-1]

    return publish


@pytest.mark.parametrize(
    ("options", "queue"),
    [
        ({}, "b"),
        ({"queue": "a"}, "a"),
        ({"queue": "a", "routing_key": "a.b"}, "a"),
        ({"queue": "made_up"}, "made_up"),
        ({"exchange": "cx", "routing_key": "c", "queue": "c"}, "c"),
    ],
)
def test_a_message_to_a_queue_has_no_route(publish, options, queue):
    published = publish(**options)
    assert (published.queue, published.route) == (queue, None)


@pytest.mark.parametrize(
    ("exchange", "key", "queue", "kind"),
    [
        ("ax", "a.b.c", "a", "topic"),
        ("ax", "a", "a", "topic"),
        ("ax", "nobody", None, "topic"),
        (TOPIC, "nobody", None, "topic"),
        ("nope", "x", None, ""),
        ("cx", "c", "c", "direct"),
        ("cx", "d", None, "direct"),
        ("fx", "anything", "f", "fanout"),
    ],
)
def test_a_message_to_an_exchange_reaches_what_is_bound_to_it_and_not_the_default_queue(
    publish, exchange, key, queue, kind
):
    published = publish(exchange=exchange, routing_key=key)
    name = getattr(exchange, "name", exchange)
    assert (published.queue, published.route) == (queue, Route(name, key, kind))
    assert (published.exchange, published.routing_key) == (name, key)


@pytest.mark.parametrize(
    ("options", "through"),
    [
        ({}, None),
        ({"queue": "made_up"}, None),
        ({"queue": "a"}, Route("ax", "a.#", "topic")),
        ({"queue": "a", "routing_key": "a.b"}, Route("ax", "a.b", "topic")),
        ({"queue": "f"}, Route("fx", "b", "fanout")),
        ({"exchange": "cx", "routing_key": "c"}, Route("cx", "c", "direct")),
    ],
)
def test_an_exchange_that_hands_a_message_on_is_told(publish, options, through):
    assert publish(**options).through == through


def test_a_broadcast_goes_to_its_exchange_and_not_to_the_queue_of_the_publisher(publish):
    published = publish(queue="all")
    assert (published.queue, published.route) == (None, Route("all", "b", "fanout"))
    assert (published.exchange, published.routing_key) == ("all", "b")


def test_a_key_that_the_queue_is_not_bound_with_leads_elsewhere(publish):
    assert publish(queue="a", routing_key="b.c").route == Route("ax", "b.c", "topic")


def test_a_route_of_the_application_may_name_an_exchange(publish):
    published = publish("proj.routed")
    assert (published.queue, published.route) == ("a", Route("ax", "a.route", "topic"))


@pytest.mark.parametrize(
    ("bound", "key", "matches"),
    [
        ("#", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.#", "ab", False),
        ("#.z", "z", True),
        ("#.z", "x.y.z", True),
        ("#.z", "xz", False),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b.c.z", True),
        ("a+.b", "aa.b", False),
    ],
)
def test_a_topic_is_read_as_the_broker_does(bound, key, matches):
    assert publishing._matches("topic", bound, key) is matches


def test_a_queue_may_have_several_bindings():
    queue = Queue("c", bindings=[binding(Exchange("cx"), routing_key="c"), binding(Exchange("dx"), routing_key="d")])
    assert sorted(each.takes(Route("dx", "d")) for each in publishing.bindings_of(queue)) == [False, True]
    assert not any(each.takes(Route("dx", "c")) for each in publishing.bindings_of(queue))


def test_a_name_has_no_bindings():
    assert list(publishing.bindings_of("a")) == []
