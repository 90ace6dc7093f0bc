"""What a class of gevent's or eventlet's lacks that Python's own has, which it stands for."""

import queue
import threading

import pytest

from pytest_celerypool.agent.detectors.hub.substitutes import Lacking, lacking


class Queue:
    """As the library's own queue."""

    __module__ = "gevent.queue"


class GreenThread:
    """As eventlet hands out for a greenlet, and nothing of Python's is."""

    __module__ = "eventlet.green.threading"


def asked(thing, name):
    with pytest.raises(AttributeError) as raised:
        getattr(thing, name)
    return raised.value


def test_an_attribute_that_pythons_class_has_and_the_substitute_has_not(monkeypatch):
    monkeypatch.setattr(queue, "Queue", Queue)
    assert lacking(asked(Queue(), "all_tasks_done"), "gevent") == Lacking(
        "queue", "all_tasks_done", "gevent.queue.Queue"
    )


def test_an_attribute_that_neither_has_is_a_typing_error(monkeypatch):
    monkeypatch.setattr(queue, "Queue", Queue)
    assert lacking(asked(Queue(), "all_task_done"), "gevent") is None


def test_a_class_of_eventlets_own_module_stands_for_that_module():
    assert lacking(asked(GreenThread(), "native_id"), "eventlet") == Lacking(
        "threading", "native_id", "eventlet.green.threading.GreenThread"
    )


@pytest.mark.parametrize(
    ("thing", "name", "pool"),
    [
        (Queue(), "all_tasks_done", "gevent"),  # nothing is replaced: it is used by its own name
        (threading.Event(), "native_id", "gevent"),  # Python's own class
        (GreenThread(), "native_id", "gevent"),  # of the other library
    ],
)
def test_what_is_no_fault_of_the_pool_is_not_told(thing, name, pool):
    assert lacking(asked(thing, name), pool) is None


def test_another_exception_is_not_looked_at():
    assert lacking(ValueError("all_tasks_done"), "gevent") is None
