"""What repetitions say of a budget that was not kept: with a worker that does what it is told to."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pytest_celerypool.agent.publishing import Publication
from pytest_celerypool.confirming import MOST, confirm
from pytest_celerypool.handle import TaskTimeoutError
from pytest_celerypool.launch import Memory, growth
from pytest_celerypool.ledger import Ledger
from pytest_celerypool.markers import MEASURES, BudgetSpec, Limit
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.budgets import judge
from pytest_celerypool.verdict.measures import Range

TASK, MIB = "proj.work", 1 << 20


class Worker:
    """A handle whose worker runs, for each message, the executions that `script` has for its argument, in turn.

    An execution is seconds in the slot, or a mapping of what else it took. What is published while another runs waits
    for it, if there is one slot alone.
    """

    def __init__(self, *scripts, timeout=1.0, published=None, pid=None):
        self.timeout, self.sent, self.repeated, self.soiled = timeout, [], set(), False
        self.ledger = self.new_ledger("test_x")
        self.app = SimpleNamespace(tasks={}, send_task=self._send_task)
        self.launched = SimpleNamespace(death=lambda: None)
        self.asked: list[dict] = []
        self.memories: list[Memory] = []
        self.hangs = False
        self.pid = pid
        self._scripts = [list(script) for script in scripts]
        for number in range(len(scripts)):
            eta = None if published is None else published
            self._run(f"{number:08d}-first", number)
            self.sent.append(
                Publication(f"{number:08d}-first", TASK, None, 0, eta, "celery", None, None, 0.0, ((number,), {}))
            )

    def new_ledger(self, test):
        return Ledger(test, "prefork", reports_lost=True, worker="w")

    def end_log(self):
        pass

    def drain(self, timeout=None):
        self.drained = timeout
        if self.hangs:
            raise TaskTimeoutError("it hangs")

    def settled_memory(self):
        return self.memories.pop(0)

    def _send_task(self, name, args, **options):
        self.asked.append({"number": args[0], **options})
        new = f"{args[0]:08d}-again{len(self.asked)}"
        self._run(new, args[0])
        self.sent.append(replace(self.sent[args[0]], id=new))
        return SimpleNamespace(id=new)

    def _run(self, task_id, number):
        script = self._scripts[number]
        took = script.pop(0) if len(script) > 1 else script[0]
        for retries, each in enumerate(took if isinstance(took, list) else [took]):
            fields = {"ended": 1.0 + each} if isinstance(each, float) else each
            fields = {
                "task": TASK,
                "state": "SUCCESS",
                "published": 0.9,
                "cpu": 0.0,
                "pid": self.pid or 10 * number + retries,
            } | fields
            name = fields.pop("task")
            own = fields.pop("id", task_id)
            span = Span(own, name, retries, "test_x", "prefork", "w", started=1.0, slot=f"child {number}", **fields)
            self.ledger._entry(own, name).spans.append(span)


def judged(worker, times=3, percentile=100.0, memory_growth=None, **limits):
    """Return the limit's verdict after repetitions, and how often each message was sent again."""
    texts = {name: Limit(value, f"{value:g}") for name, value in limits.items()}
    spec = BudgetSpec({name: texts[name] for name in MEASURES if name in texts}, percentile, "*", None)

    def judge_with(instead):
        tasks = list(worker.ledger.tasks.values())
        return judge(spec, tasks, "prefork", green=False, memory_growth=memory_growth, instead=instead)

    return confirm(worker, spec, judge_with({}), times, judge_with)


def verdict(worker, **options):
    outcome = judged(worker, **options)
    return outcome.judged[0].verdict, len(worker.asked)


def test_one_repetition_that_keeps_the_limit_is_enough():
    """What disturbs a measurement only adds to it."""
    worker = Worker([0.3, 0.2, 0.05, 0.3])
    outcome = judged(worker, runtime=0.1)
    assert (outcome.failures, outcome.standings, len(worker.asked)) == ((), ["runtime noise"], 2)
    assert outcome.notes[0].endswith("above the limit of 0.1: noise, sent again alone it was 200 ms, 50 ms")


def test_what_breaks_it_each_time_is_confirmed():
    """The failure says what the repetitions took."""
    worker = Worker([0.3, 0.2, 0.25, 0.3])
    outcome = judged(worker, runtime=0.1)
    assert (outcome.standings, outcome.notes) == (["runtime confirmed"], ())
    assert "confirmed: sent again alone 3 times, it was 200 ms, 250 ms, 300 ms" in str(outcome.failures[0])


def test_what_was_inconclusive_fails_once_it_is_confirmed():
    """The failure says what was measured then, not what could not be told."""
    outcome = judged(Worker([0.1001, 0.3, 0.2, 0.4]), runtime=0.1)
    assert outcome.standings == ["runtime confirmed"]
    assert "runtime 300 ms is above the limit of 0.1" in str(outcome.failures[0])


@pytest.mark.parametrize(
    "again",
    [
        {"ended": 1.01, "state": "FAILURE"},
        {"ended": 1.01, "task": "proj.replaced"},
    ],
)
def test_a_repetition_that_did_something_else_excuses_nothing(again):
    """A task that fails at once when it is sent again is quick, which says nothing of how long it takes."""
    worker = Worker([0.3, again])
    outcome = judged(worker, runtime=0.1)
    assert (outcome.standings, len(worker.asked)) == (["runtime broken"], 1)
    assert "did not do the same" in str(outcome.failures[0])


def test_a_retry_is_compared_with_the_same_retry():
    """The second execution of a task is not the first one."""
    assert verdict(Worker([[0.01, 0.3], [0.3, 0.01]]), runtime=0.1) == ("noise", 1)


def test_a_retry_that_does_not_come_again_excuses_nothing():
    """A task that goes well at once has not shown what its retry takes."""
    assert verdict(Worker([[0.01, 0.3], [0.01]]), runtime=0.1) == ("broken", 1)


@pytest.mark.parametrize("measure", ["makespan", "memory"])
def test_all_together_have_to_be_the_same(measure):
    """What followed in a chain does not follow a repetition, which is no excuse for the whole."""
    worker = Worker([0.3, 0.01])
    worker.ledger._entry("child", "proj.follow").spans.append(
        Span(
            "child", "proj.follow", 0, "test_x", "prefork", "w", published=1.3, started=1.3, ended=1.6, state="SUCCESS"
        )
    )
    worker.memories = [Memory({1: 0}, frozenset({1}))] * 2
    outcome = judged(worker, memory_growth=Range(9, 9), **{measure: 0.1})
    assert outcome.standings == [f"{measure} broken"]
    assert "not the same ran" in str(outcome.failures[0])


@pytest.mark.parametrize("measure", ["queued", "total", "makespan"])
def test_what_waits_behind_others_of_the_test_does_so_again(measure):
    """A queue that the test itself fills is no noise: all that it published is sent again."""
    late = {"published": 0.5, "ended": 1.01}
    worker = Worker([0.01], [late])
    outcome = judged(worker, times=2, **{measure: 0.3})
    assert outcome.standings == [f"{measure} confirmed"]
    assert [each["number"] for each in worker.asked] == [0, 1, 0, 1]


def test_a_queue_that_was_noise():
    """One pass in which every execution keeps the limit is enough."""
    late, early = {"published": 0.5, "ended": 1.01}, {"published": 0.95, "ended": 1.01}
    worker = Worker([early], [late, early], [late, early])
    assert verdict(worker, queued=0.3) == ("noise", 3)


def test_an_eta_is_waited_for_again():
    """What is queued until its ETA was queued for as long as the test said."""
    worker = Worker([0.01], published="2026-01-01T00:00:10+00:00")
    worker.sent[0] = replace(worker.sent[0], published=time.monotonic() - 5)
    eta = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 5))
    worker.sent[0] = replace(worker.sent[0], eta=eta)
    judged(worker, times=1, queued=0.05)
    assert worker.asked[0]["countdown"] == pytest.approx(10, abs=1.5)


def test_executions_above_a_percentile_are_sent_again_one_by_one():
    """Each that was noise is left out; what remains decides."""
    worker = Worker([0.3, 0.01], [0.4, 0.01], [0.01])
    assert verdict(worker, runtime=0.1, percentile=90) == ("noise", 2)


def test_so_many_executions_are_sent_again_at_most():
    """Those of which nothing is known then cannot fail the test, nor are they noise."""
    worker = Worker(*[[0.3, 0.01]] * (MOST + 5))
    outcome = judged(worker, runtime=0.1)
    assert (outcome.standings, outcome.failures, len(worker.asked)) == (["runtime inconclusive"], (), MOST)
    assert f"{MOST} were sent again alone" in outcome.notes[0]


def test_what_shared_its_process_is_not_noise_because_it_is_quick_alone():
    """Tasks of one process take each other's time: that is what the test shows, and a repetition alone does not."""
    worker = Worker([0.3, 0.01], [0.3, 0.01], pid=7)
    outcome = judged(worker, runtime=0.1)
    assert (outcome.standings, outcome.failures) == (["runtime inconclusive"], ())
    assert "others ran beside it in its process" in outcome.notes[0]


def test_a_repetition_that_cannot_be_told_excuses_nothing():
    """It may keep the limit or not: neither noise nor confirmed."""
    unclear = {"ended": 1.2, "slot_waited": 0.19, "waited": 0.0}
    outcome = judged(Worker([0.3, unclear]), times=2, runtime=0.1)
    assert outcome.standings == ["runtime broken"]
    assert "between 10 ms and 200 ms, between 10 ms and 200 ms, which does not tell" in str(outcome.failures[0])


def test_nothing_more_is_sent_after_one_that_does_not_end():
    """A slot may be taken for good, and each attempt costs a deadline."""
    worker = Worker([0.3], timeout=1.0)
    worker.hangs = True
    outcome = judged(worker, runtime=0.1, total=0.1)
    assert (outcome.standings, len(worker.asked)) == (["runtime broken", "total broken"], 1)


def test_a_repetition_may_take_as_long_as_the_test_did():
    """The deadline is that of a drain, on top of what the tasks took."""
    worker = Worker([8.0], timeout=1.0)
    judged(worker, times=1, runtime=0.1)
    assert worker.drained == pytest.approx(9.1)


def test_what_the_test_did_not_publish_stays_as_it_was():
    """A child of a task cannot be sent again."""
    worker = Worker([{"ended": 1.3, "id": "child"}])
    outcome = judged(worker, runtime=0.1)
    assert (outcome.standings, worker.asked) == (["runtime broken"], [])


@pytest.mark.parametrize(
    ("grown", "standing"), [([0, 0], "inconclusive"), ([0, 30 * MIB, 30 * MIB, 60 * MIB], "confirmed")]
)
def test_memory_that_grows_once_is_no_leak_and_no_noise(grown, standing):
    """An import or a cache grows once; only what grows each time is confirmed."""
    worker = Worker([0.01])
    worker.memories = [Memory({1: used}, frozenset({1})) for used in grown]
    outcome = judged(worker, times=2, memory_growth=Range(30 * MIB, 30 * MIB, MIB), memory=10 * MIB)
    assert outcome.standings == [f"memory {standing}"]


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [
        (({1: 10, 2: 20}, {1, 2}), ({1: 15, 2: 21}, {1, 2}), 6),
        (({1: 10, 2: 20}, {1, 2}), ({1: 10, 3: 90}, {1, 3}), None),
        (({1: 10}, {1}), ({1: 10, 2: 20}, {1, 2}), None),
        (({1: 10, 2: 20}, {1, 2}), ({1: 10}, {1}), None),
        (({1: 10}, {1}), ({1: 11, 7: 20}, {1}), 21),
        (({1: 10, 7: 20}, {1}), ({1: 11}, {1}), 1),
    ],
)
def test_growth(before, after, grown):
    """Children that come and go take their growth with them; what a task started counts only while it is there."""
    sides = [Memory(used, frozenset(own)) for used, own in (before, after)]
    assert growth(*sides) == grown


@pytest.mark.parametrize(("again", "standing"), [(0.0998, "noise"), (0.1002, "confirmed")])
def test_a_repetition_close_to_the_limit_decides_too(again, standing):
    """The lowest of several measurements is the least disturbed: it has no noise left to doubt it by."""
    assert verdict(Worker([0.3, again]), runtime=0.1)[0] == standing


def test_all_is_sent_again_at_the_distances_of_the_test_and_forgotten():
    """What the test waited for in between belongs to a makespan; what was repeated is not of the test."""
    worker = Worker([0.3], [0.3])
    worker.sent[1] = replace(worker.sent[1], published=0.1)
    sent, began = list(worker.sent), time.monotonic()
    judged(worker, times=1, makespan=0.1)
    assert time.monotonic() - began >= 0.1
    assert (worker.sent, len(worker.ledger.tasks)) == (sent, 2)
