"""Messages arrive whole and in order, whatever is in them."""

import datetime
import os
import signal
import socket

import pytest

from pytest_celerypool.channel import Channel


@pytest.fixture
def ends():
    channels = [Channel(end) for end in socket.socketpair()]
    yield channels
    for channel in channels:
        channel.close()


class Refuses:
    """Neither pickled nor shown."""

    def __reduce__(self):
        raise TypeError("no")

    def __repr__(self):
        raise ValueError("no")


class Deceives:
    """Pickled, but nothing that could be unpickled."""

    def __reduce__(self):
        return int, ("no number",)

    def __repr__(self):
        return "deceives"


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ({"a": [1, 2.5, None, True, b"x", ("t", {"s"})]}, {"a": [1, 2.5, None, True, b"x", ("t", {"s"})]}),
        (datetime.date(2026, 1, 2), datetime.date(2026, 1, 2)),
        (Refuses(), "<Refuses>"),
        ([Deceives()], ["deceives"]),
        ({1: (Refuses(),)}, {1: ("<Refuses>",)}),
        ("x" * 50_000, "x" * 50_000),
    ],
)
def test_a_value(ends, value, arrives):
    here, there = ends
    here.send("one", value=value)
    here.send("two")
    assert there.receive(5) == ("one", {"value": arrives})
    assert there.receive(5) == ("two", {})


def test_a_value_that_contains_itself(ends):
    here, there = ends
    value = []
    value.append(value)
    here.send("one", value=value)
    assert there.receive(5)[0] == "one"


def test_nothing_in_time(ends):
    assert ends[0].receive(0.01) is None


def test_the_other_side_is_gone(ends):
    here, there = ends
    here.send("last")
    here.close()
    assert there.receive(5) == ("last", {})
    with pytest.raises(EOFError):
        there.receive(5)


def test_a_forked_child_neither_holds_the_connection_nor_speaks(ends):
    here, there = ends
    child = os.fork()
    if child == 0:
        here.send("from the child")
        signal.pause()
    try:
        here.close()
        with pytest.raises(EOFError):
            there.receive(5)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
