"""Which results never come, or not in time."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.trace import Span
from pytest_celerypool.vain import GRACE_S, is_at_rest, is_late, is_refused, is_replaced, stores_nothing


def entry(state=None, *, args=(), started=1.0, ended=2.0, published=0.5, **facts):
    """A task that was published once, and has ended in `state` if there is one."""
    made = TaskEntry("1", "proj.add", publications=[(0, published)], **facts)
    if state is not None:
        span = Span("1", "proj.add", 0, "test_x", "prefork", started=started, ended=ended, state=state)
        span.error = {"type": "X", "module": "x", "args": list(args)}
        made.spans.append(span)
    return made


@pytest.mark.parametrize(
    ("state", "args", "expected"),
    [
        ("IGNORED", (), True),
        ("REJECTED", ("no", False), True),
        ("REJECTED", ("Refusing to deserialize",), True),
        ("REJECTED", ("no", True), False),  # the broker delivers it again
        ("SUCCESS", (), False),
        ("FAILURE", ("no", True), False),
        ("REVOKED", (), False),
        (None, (), False),
    ],
)
def test_of_what_is_ignored_or_rejected_nothing_is_stored(state, args, expected):
    assert stores_nothing(entry(state, args=args)) is expected


def test_what_goes_on_under_the_same_id_may_still_store_something():
    assert not stores_nothing(entry("IGNORED", receptions=[1.0, 3.0]))


def test_a_task_that_no_slot_had_was_refused():
    assert is_refused(entry("REJECTED", started=None))
    assert not is_refused(entry("REJECTED"))
    assert not is_refused(entry("REVOKED", started=None))


def test_a_replaced_task_is_told_from_one_that_ignores_itself():
    assert is_replaced(entry("IGNORED", args=("Replaced by new task",)))
    assert not is_replaced(entry("IGNORED"))


@pytest.mark.parametrize("zone", [UTC, None])
def test_an_eta_is_late_if_it_comes_after_that_many_seconds(zone):
    waiting = entry(eta=(datetime.now(zone) + timedelta(seconds=30)).isoformat())
    assert is_late(waiting, 20)
    assert not is_late(waiting, 40)


def test_what_has_begun_has_ended_or_has_no_eta_is_not_late():
    far = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert not is_late(entry("SUCCESS", eta=far), 1)
    assert not is_late(entry("STARTED", ended=None, eta=far), 1)
    assert not is_late(entry(), 1)
    assert not is_late(entry(eta="tomorrow"), 1)


def test_a_task_is_at_rest_some_time_after_its_last_step():
    now = time.monotonic()
    assert is_at_rest(entry(published=now - GRACE_S - 1))
    assert not is_at_rest(entry(published=now))
    assert not is_at_rest(entry(published=now - 5, receptions=[now]))
    assert not is_at_rest(entry("IGNORED", published=now - 5, ended=now))
    assert is_at_rest(entry("IGNORED", published=now - 5, ended=now - GRACE_S - 1))
