"""What the thread that looks at the hub waits for."""

import os
import sys
import time

import pytest

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors.hub import timer as timers
from pytest_celerypool.agent.detectors.hub.timer import Paced, PutOff, make

LINUX = sys.platform == "linux"
KINDS = [Paced, pytest.param(PutOff, marks=pytest.mark.skipif(not LINUX, reason="timerfd is Linux's"))]

#: Seconds: longer than a wait takes that ends at once, on any machine.
LONG_S = 30.0


@pytest.fixture
def timer(request):
    cls, *seconds = request.param if isinstance(request.param, tuple) else (request.param, 0.05)
    made = cls() if cls is Paced else cls(*seconds)
    yield made
    made.close()


def seconds_of(wait, *arguments):
    began = time.monotonic()
    wait(*arguments)
    return time.monotonic() - began


@pytest.mark.parametrize("timer", KINDS, indirect=True)
def test_a_wait_ends_after_its_seconds(timer):
    assert 0.04 < seconds_of(timer.wait, 0.05) < LONG_S


@pytest.mark.parametrize("timer", KINDS, indirect=True)
def test_a_wait_without_end_ends_when_it_is_fired(timer):
    def fire():
        originals.sleep(0.05)
        timer.fire()

    originals.start_new_thread(fire, ())
    assert 0.04 < seconds_of(timer.wait, -1.0) < LONG_S


@pytest.mark.parametrize("timer", KINDS, indirect=True)
def test_it_is_fired_once(timer):
    timer.fire()
    timer.wait(LONG_S)
    assert seconds_of(timer.wait, 0.05) > 0.04


@pytest.mark.skipif(not LINUX, reason="timerfd is Linux's")
@pytest.mark.parametrize("timer", [(PutOff, 0.5)], indirect=True)
def test_it_is_due_the_agreed_seconds_after_it_was_put_off_last(timer):
    timer.put_off()
    originals.sleep(0.2)
    last = time.monotonic()
    timer.put_off()
    timer.wait(LONG_S)
    assert 0.49 < time.monotonic() - last < LONG_S


@pytest.mark.skipif(not LINUX, reason="timerfd is Linux's")
@pytest.mark.parametrize("timer", [PutOff], indirect=True)
def test_one_that_was_put_off_while_it_was_due_is_due_again(timer):
    timer.put_off()
    originals.sleep(0.06)
    timer.put_off()
    timer.wait(LONG_S)
    assert timer._poll.poll(0) == []


@pytest.mark.skipif(not LINUX, reason="timerfd is Linux's")
@pytest.mark.parametrize("timer", [PutOff], indirect=True)
def test_what_has_got_its_number_meanwhile_is_not_read_and_not_closed(timer):
    """As after ``os.closerange`` in a task, when files of the user's are opened."""
    reading, writing = os.pipe()
    os.dup2(reading, timer._fd)
    os.write(writing, b"the user's")
    assert seconds_of(timer.wait, LONG_S) < LONG_S
    timer.put_off()
    timer.close()
    assert os.read(timer._fd, 100) == b"the user's"
    for fd in (reading, writing, timer._fd):
        os.close(fd)


@pytest.mark.skipif(not LINUX, reason="timerfd is Linux's")
@pytest.mark.parametrize("timer", [PutOff], indirect=True)
def test_a_closed_descriptor_makes_nobody_busy(timer):
    os.close(timer._fd)
    assert seconds_of(timer.wait, LONG_S) >= 0.04


@pytest.mark.skipif(not LINUX, reason="timerfd is Linux's")
def test_without_descriptors_the_thread_waits_at_a_regular_pace(monkeypatch):
    def fails(_seconds):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(timers, "PutOff", fails)
    assert isinstance(make(1.0), Paced)
