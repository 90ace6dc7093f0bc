"""A worker's waits for its broker end when it is asked to stop, and not before."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.utils import eventio

from pytest_celerypool.agent.waits import Stops, time_out

#: What the pollers of kombu do in a process that a green library has patched; the worker is stopped by a signal.
GREEN = """
import gc, json, os, signal, sys, time
from pytest_celerypool.agent import originals
if sys.argv[1] == "gevent":
    from gevent import monkey; monkey.patch_all()
else:
    import warnings; warnings.simplefilter("ignore")
    import eventlet; eventlet.monkey_patch()
from kombu.utils import eventio
from pytest_celerypool.agent.waits import Stops

def timed(wait):
    began = time.monotonic()
    found = wait()
    return found, time.monotonic() - began

def descriptors():
    return len(os.listdir("/dev/fd"))

seen = {}
stops = Stops()
one, other = (stops.watch(eventio.poll(), lambda: "interrupted") for _ in range(2))
time.sleep(0.01)  # the hub has descriptors of its own
before = descriptors()
other.poll(0.02)
seen["nothing came"] = timed(lambda: one.poll(0.1))
seen["watched by the poller"] = len(one._rfd)
reading, writing = os.pipe()
one.register(reading, eventio.READ)
os.write(writing, b"x")
seen["event"] = one.poll(5) == [(reading, eventio.READ)]
os.read(reading, 1)
signal.signal(signal.SIGALRM, lambda *_: stops.wake())
signal.setitimer(signal.ITIMER_REAL, 0.05)
seen["stopped"] = timed(lambda: one.poll(5))
seen["stopped again"] = timed(lambda: one.poll(5))
seen["the other one"] = timed(lambda: other.poll(5))
seen["a look"] = one.poll(0)
os.write(writing, b"x")
seen["event while stopping"] = one.poll(5) == [(reading, eventio.READ)]
one.unregister(reading); os.close(reading); os.close(writing)
del one, other
gc.collect()
time.sleep(0.02)
seen["descriptors left"] = descriptors() - before
print(json.dumps(seen))
"""


@pytest.fixture(scope="module", params=["gevent", "eventlet"])
def green(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the pollers of a patched process did: what each wait found, and its seconds."""
    command = [sys.executable, "-c", GREEN, request.param]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


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


def test_a_greenlets_wait_lasts_as_long_as_asked_for(green: dict[str, Any]):
    events, seconds = green["nothing came"]
    assert not events
    assert 0.099 <= seconds < 2


def test_a_greenlet_sees_its_events_before_and_after_the_worker_was_asked_to_stop(green: dict[str, Any]):
    assert green["event"]
    assert green["event while stopping"]
    assert green["a look"] == []


def test_the_waits_of_all_greenlets_end_when_a_signal_stops_the_worker(green: dict[str, Any]):
    for wait in ("stopped", "stopped again", "the other one"):
        found, seconds = green[wait]
        assert found == "interrupted"
        assert seconds < 2


def test_a_green_poller_has_nothing_more_to_watch_for_that(green: dict[str, Any]):
    assert green["watched by the poller"] == 0


def test_a_green_pollers_pipe_is_closed_with_it(green: dict[str, Any]):
    assert green["descriptors left"] == 0
