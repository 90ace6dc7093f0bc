"""A worker's waits for its broker end when it is asked to stop, and not before."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kombu.utils import eventio

from pytest_celerypool.agent.waits import Stops, time_out


@pytest.fixture
def stops() -> Stops:
    """What stops the pollers."""
    return Stops()


@pytest.fixture(params=["default", "select"])
def poller(request: pytest.FixtureRequest, stops: Stops) -> Iterator[Any]:
    """A poller of kombu's, of the system's best kind and of that of the green pools."""
    make = eventio.poll if request.param == "default" else eventio._select
    poller = stops.watch(make(), lambda: "interrupted")
    yield poller
    poller.close()


def test_a_wait_lasts_as_long_as_asked_for(poller: Any):
    began = time.monotonic()
    assert not poller.poll(0.1)
    assert time.monotonic() - began >= 0.099


@pytest.mark.parametrize("asked", [5, None])
def test_a_wait_lasts_no_longer_than_it_may(stops: Stops, asked: float | None):
    poller = stops.watch(eventio.poll(), lambda: "interrupted", 0.05)
    began = time.monotonic()
    assert not poller.poll(asked)
    assert time.monotonic() - began < 2
    poller.close()


def test_a_wait_ends_when_the_worker_stops(poller: Any, stops: Stops):
    timer = threading.Timer(0.05, stops.wake)
    timer.start()
    began = time.monotonic()
    assert poller.poll(5) == "interrupted"
    timer.join()
    assert time.monotonic() - began < 2


def test_a_stopping_worker_still_sees_its_events_and_nothing_else(poller: Any, stops: Stops):
    poller.poll(0.02)
    stops.wake()
    assert poller.poll(5) == "interrupted"
    assert poller.poll(5) == "interrupted"
    assert poller.poll(0) == []
    reading, writing = os.pipe()
    os.write(writing, b"x")
    poller.register(reading, eventio.READ)
    assert poller.poll(5) == [(reading, eventio.READ)]
    poller.unregister(reading)
    os.close(reading)
    os.close(writing)


def test_each_poller_has_a_pipe_of_its_own_made_when_it_first_waits_and_closed_with_it(stops: Stops):
    one, other = (stops.watch(eventio._select(), list) for _ in range(2))
    one.poll(0)
    assert not stops._writing
    one.poll(0.02)
    other.poll(0.02)
    pipes = set(stops._writing)
    assert len(pipes) == 2
    del one, other
    gc.collect()
    assert not stops._writing
    for fd in pipes:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_drain_events_is_told_of_it_by_what_its_callers_expect():
    with pytest.raises(TimeoutError):
        time_out()
