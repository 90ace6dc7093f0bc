"""How many slots a worker of contrib's fixtures gets where its suite does not say, and when it is reloaded."""

import pytest

from pytest_celerypool.pools import OWN, pool
from pytest_celerypool.settings import Concurrency, Settings
from pytest_celerypool.standin import _replaced, slots


@pytest.mark.parametrize(
    ("given", "each", "expected"),
    [
        (None, pool("prefork"), 1),
        ("3", pool("prefork"), 3),
        ("3", pool("solo"), 1),
        ("3", OWN, 3),
        ("solo=4", pool("solo"), 4),
        ("gevent=20", pool("gevent"), 20),
        ("gevent=20", pool("threads"), 1),
        ("3,gevent=20", pool("threads"), 3),
        ("app", pool("threads"), None),
        ("app,gevent=20", pool("gevent"), 20),
    ],
)
def test_only_a_concurrency_that_was_given_counts(given, each, expected):
    concurrency = Concurrency() if given is None else Concurrency.parse(given, "--celery-concurrency")
    assert slots(Settings(concurrency=concurrency), each) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (set(), False),  # both have ended, and nothing is there yet
        ({1, 2}, False),
        ({2, 3}, False),
        ({3}, False),
        ({3, None}, False),  # the second is about to be forked
        ({3, 4}, True),
        ({3, 4, 5}, True),
    ],
)
def test_a_pool_is_reloaded_when_as_many_new_children_are_forked(now, expected):
    assert _replaced({1, 2}, now) is expected


def test_a_pool_without_children_has_none_to_wait_for():
    assert _replaced(set(), set())
