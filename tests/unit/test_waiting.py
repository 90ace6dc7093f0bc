"""For how long a task's way to its slot waited for a processor."""

import pytest

from pytest_celerypool.ledger import Ledger
from pytest_celerypool.waiting import Waited


class Clocks:
    """Those whom a message passes, as a test has them wait."""

    def __init__(self, *, apart=True, complete=True):
        self.apart, self.complete, self.histories = apart, complete, {}
        self.others = self.main = 0.0

    def read(self):
        return Waited(self.others, self.main)


def made(**facts):
    clocks = Clocks(**facts)
    return clocks, Ledger("test_x", "prefork", reports_lost=True, clocks=clocks)


def publish(ledger, task_id="1", published=10.0):
    ledger.publish(task_id, "t", 0, published, "celery", None)


def receive(ledger, task_id="1"):
    ledger.feed({"e": "recv", "t": 10.1, "id": task_id, "task": "t"})


def start(ledger, delayed, task_id="1", started=11.0, slot="child 0"):
    ledger.feed(
        {"e": "start", "t": started, "id": task_id, "task": "t", "retries": 0, "args": None, "kwargs": None, "pid": 7,
         "slot": slot, "mem": 0, "delayed": delayed}
    )  # fmt: skip
    return ledger.tasks[task_id].spans[-1].queue_waited


def end(ledger, delay, task_id="1", ended=12.0, slot="child 0", stored=0.0):
    ledger.feed(
        {"e": "end", "t": ended, "id": task_id, "task": "t", "retries": 0, "pid": 7, "slot": slot, "state": "SUCCESS",
         "exc": None, "cpu": 0.0, "wait": delay, "delay": delay, "stored": stored, "mem": 0}
    )  # fmt: skip


def test_what_the_publisher_had_waited_is_kept_with_the_span():
    """Of two executions it says by how much the second may have been published too late."""
    clocks, ledger = made()
    clocks.others = 3.0
    publish(ledger)
    clocks.others = 4.0
    receive(ledger)
    start(ledger, 0.0)
    assert ledger.tasks["1"].spans[-1].publisher_waited == 3.0


def test_who_hands_a_message_on_counts_until_the_worker_has_it():
    clocks, ledger = made()
    publish(ledger)
    clocks.others = 0.2
    receive(ledger)
    clocks.others = 0.9
    assert start(ledger, 0.0) == pytest.approx(0.2)


def test_the_thread_that_receives_counts_until_the_task_starts():
    clocks, ledger = made()
    publish(ledger)
    clocks.main = 0.1
    receive(ledger)
    clocks.main = 0.3
    assert start(ledger, 0.0) == pytest.approx(0.3)


def test_of_a_slot_counts_what_it_waited_since_it_was_last_known_before_the_publication():
    _, ledger = made()
    publish(ledger, "0", published=1.0)
    start(ledger, 5.0, "0", started=2.0)
    end(ledger, 0.5, "0", ended=3.0)
    publish(ledger)
    assert start(ledger, 5.7) == pytest.approx(0.2)


def test_the_task_before_it_in_the_slot_counts():
    """What waits behind it in the queue waits for its processor too."""
    _, ledger = made()
    publish(ledger, "0", published=1.0)
    start(ledger, 5.0, "0", started=2.0)
    publish(ledger, published=2.5)
    end(ledger, 0.5, "0", ended=3.0)
    assert start(ledger, 5.5) == pytest.approx(0.5)


@pytest.mark.parametrize("apart", [True, False])
def test_the_results_that_the_slot_stored_meanwhile_count(apart):
    _, ledger = made(apart=apart)
    publish(ledger, "0", published=1.0)
    start(ledger, 0.0, "0", started=2.0)
    publish(ledger, published=2.5)
    end(ledger, 0.0, "0", ended=3.0, stored=0.25)
    assert start(ledger, 0.0) == pytest.approx(0.25)


def test_another_slot_does_not_count():
    _, ledger = made()
    publish(ledger, "0", published=1.0)
    start(ledger, 5.0, "0", started=2.0, slot="child 1")
    publish(ledger)
    assert start(ledger, 0.25) == pytest.approx(0.25)


def test_where_tasks_run_in_the_thread_that_receives_it_counts_once():
    clocks, ledger = made(apart=False)
    clocks.main = 3.0
    publish(ledger)
    clocks.main = 3.4
    receive(ledger)
    assert start(ledger, 3.4) == pytest.approx(0.4)


def test_nobody_waits_longer_than_the_message_is_queued():
    clocks, ledger = made()
    publish(ledger)
    clocks.others = 99.0
    receive(ledger)
    assert start(ledger, 99.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("others", "waited"), [(0.0, 0.0), (0.1, 1.0)])
def test_with_a_server_that_nobody_knows_all_of_it_may_have_been_waiting_if_anybody_waited(others, waited):
    clocks, ledger = made(complete=False)
    publish(ledger)
    clocks.others = others
    receive(ledger)
    assert start(ledger, 0.0) == pytest.approx(waited)


def test_where_the_system_does_not_tell_nothing_is_known():
    _, ledger = made()
    publish(ledger)
    assert start(ledger, None) is None


def test_of_a_slot_not_every_moment_is_remembered():
    """A worker may run millions of tasks."""
    clocks, ledger = made()
    for number in range(3000):
        publish(ledger, f"{number}", float(number))
        start(ledger, 0.0, f"{number}", number + 0.5)
    (history,) = clocks.histories.values()
    assert 1000 <= len(history) <= 2000


def test_after_a_restart_others_are_asked():
    """The threads of the old worker have ended; what the message waited before is not forgotten."""
    clocks, ledger = made()
    publish(ledger)
    clocks.others = 0.25
    again = Clocks()
    again.others, again.main = clocks.others, 9.0
    ledger.ask(again)
    receive(ledger)
    again.main += 0.125
    assert start(ledger, 0.0) == pytest.approx(0.25 + 0.125)
