import math
import re

import pytest

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import MEASURES, BudgetSpec, Limit
from pytest_celerypool.pools import POOLS
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.budgets import BudgetOutcome, Nearest, judge
from pytest_celerypool.verdict.measures import Range, makespan, overlap, runtime, throughput

PREFORK, SOLO, THREADS, GEVENT, EVENTLET = POOLS
ADD = "proj.tasks.add"
MIB = 2**20


def span(started=1.0, ended=1.2, *, number=0, task=ADD, **fields):
    fields = {"args": (number,), "kwargs": {}, "slot": f"child {number}", "published": 0.5} | fields
    state = None if ended is None else "SUCCESS"
    return Span(f"{number:08d}-x", task, 0, "test_x", "prefork", started=started, ended=ended, state=state, **fields)


def entries(*spans):
    return [TaskEntry(each.id, each.task, publications=[(0, each.published or 0.0)], spans=[each]) for each in spans]


def budget(percentile=100.0, tasks="*", pools=None, **limits):
    texts = {name: limit if isinstance(limit, Limit) else Limit(limit, f"{limit:g}") for name, limit in limits.items()}
    return BudgetSpec({name: texts[name] for name in MEASURES if name in texts}, percentile, tasks, pools)


def outcome(*spans, pool="prefork", green=False, memory_growth=None, **spec):
    grown = None if memory_growth is None else Range(memory_growth, memory_growth)
    return judge(budget(**spec), entries(*spans), pool, green=green, memory_growth=grown)


def summaries(*spans, **spec):
    return [failure.summary for failure in outcome(*spans, **spec).failures]


NAMED = f"{ADD}[00000000](0) under prefork"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"runtime": Limit(0.1, "100ms")}, f"{NAMED}: runtime 200 ms is above the limit of 100ms"),
        ({"queued": Limit(0.1, "100ms")}, f"{NAMED}: queued 500 ms is above the limit of 100ms"),
        ({"total": Limit(0.1, "100ms")}, f"{NAMED}: total 700 ms is above the limit of 100ms"),
        ({"cpu": Limit(0.01, "0.01 s")}, f"{NAMED}: cpu 50 ms is above the limit of 0.01 s"),
        ({"memory": Limit(20 * MIB, "20MiB")}, f"{ADD} under prefork: memory 30.0 MiB is above the limit of 20MiB"),
        (
            {"throughput": Limit(5, "5 tasks/s")},
            f"{ADD} under prefork: throughput 1.43 tasks/s is below the limit of 5 tasks/s",
        ),
        ({"overlap": Limit(2, "2")}, f"{ADD} under prefork: overlap 1 is below the limit of 2"),
        ({"makespan": Limit(0.1, "100ms")}, f"{ADD} under prefork: makespan 700 ms is above the limit of 100ms"),
    ],
)
def test_broken(limits, text):
    """One line says which task, which measure, how much, the limit, and the pool."""
    assert summaries(span(cpu=0.05), memory_growth=30 * MIB, **limits) == [text]


@pytest.mark.parametrize("measure", ["runtime", "queued", "total", "cpu", "hold", "memory", "makespan"])
def test_a_limit_may_be_reached(measure):
    """What is exactly as much as the limit is within it."""
    exact = span(1.0, 2.0, published=0.0, cpu=1.0, hold=1.0)
    value = {"total": 2.0, "makespan": 2.0}.get(measure, 1.0)
    assert summaries(exact, green=True, memory_growth=1, **{measure: value}) == []


@pytest.mark.parametrize(("measure", "value"), [("throughput", 0.5), ("overlap", 1)])
def test_a_lower_limit_may_be_reached(measure, value):
    """Of throughput and overlap, too little breaks the budget."""
    assert summaries(span(1.0, 2.0, published=0.0), **{measure: value}) == []


@pytest.mark.parametrize("measure", ["throughput", "overlap"])
def test_more_than_a_lower_limit(measure):
    """More than a lower limit is fine."""
    assert summaries(span(1, 2, number=1), span(1, 2, number=2), **{measure: 1}) == []


@pytest.mark.parametrize(("waited", "seconds"), [(None, 0.25), (0.0, 0.25), (0.125, 0.125), (0.25, 0.0), (0.5, 0.0)])
def test_runtime_is_corrected(waited, seconds):
    """The time for which the slot had no processor is not the task's, and nothing takes less than no time."""
    assert runtime(span(1.0, 1.25, waited=waited)) == seconds


@pytest.mark.parametrize("fields", [{"started": None}, {"ended": None}])
def test_no_runtime(fields):
    """What never started or has not ended has no runtime."""
    assert runtime(span(**fields)) is None


@pytest.mark.parametrize(("green", "broken"), [(True, True), (False, False)])
def test_hold_is_for_green_pools(green, broken):
    """Where no hub is shared, keeping it is neither judged nor remarked upon."""
    found = outcome(span(hold=0.5), green=green, hold=0.1)
    assert (bool(found.failures), found.notes) == (broken, ())


@pytest.mark.parametrize(
    ("percentile", "count", "rank"),
    [(100, 20, 20), (95, 20, 19), (50, 3, 2), (50, 4, 2), (1, 5, 1), (99.9, 1000, 999), (7, 100, 7), (0.1, 10, 1)],
)
def test_percentile(percentile, count, rank):
    """The percentile is the nearest rank: a value that was measured, never one between two."""
    spans = [span(1.0, 1.0 + number, number=number) for number in range(count, 0, -1)]
    found = outcome(*spans, runtime=2000, percentile=percentile).nearest
    assert found.share == pytest.approx(rank / 2000)


def test_percentile_is_told():
    """A failure at a percentile says so, and names the execution that stands there."""
    spans = [span(1.0, 1.0 + number, number=number) for number in range(1, 5)]
    assert summaries(*spans, runtime=1.5, percentile=50) == [
        f"{ADD}[00000002](2) under prefork: runtime 2.00 s (percentile 50 of 4 executions) is above the limit of 1.5"
    ]


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("runtime", 0.2001, "runtime 200.100 ms is inconclusive against the limit of 200ms"),
        ("makespan", 0.2001, "makespan 200.100 ms is inconclusive against the limit of 200ms"),
        ("throughput", 0.2001, "throughput 4.997501 tasks/s is inconclusive against the limit of 5 tasks/s"),
        ("memory", MIB + 1, "memory 1048577 B is above the limit of 1MiB"),
    ],
)
def test_close_to_the_limit(measure, value, text):
    """Rounding never makes a value that broke its limit look like the limit."""
    limits = {"throughput": Limit(5, "5 tasks/s"), "memory": Limit(MIB, "1MiB")}
    limit = limits.get(measure, Limit(0.2, "200ms"))
    spans = span(0.0, min(value, 1.0), published=0.0)
    found = outcome(spans, memory_growth=int(value), **{measure: limit})
    told = [*(failure.summary for failure in found.failures), *found.notes]
    assert [each.split(": ")[1] for each in told] == [text]


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], None),
        ([span(published=None)], None),
        ([span(ended=None)], None),
        ([span(1.0, 2.0, published=0.5), span(1.5, 4.5, published=1.0)], 4.0),
        ([span(1.0, 2.0, published=0.5), span(1.5, None, published=1.0)], 1.5),
    ],
)
def test_makespan(spans, seconds):
    """The makespan goes from the first publication to the last end."""
    assert makespan(spans) == seconds


@pytest.mark.parametrize(
    ("spans", "rate"),
    [
        ([], None),
        ([span(1.0, 2.0, published=0.0)] * 4, 2.0),
        ([span(1.0, 2.0, published=0.0), span(None, 1.0, published=0.0)], 0.5),
        ([span(None, 1.0, published=0.0)], None),
    ],
)
def test_throughput(spans, rate):
    """Only what ended in a slot was put through."""
    assert throughput(spans) == rate


@pytest.mark.parametrize(
    ("times", "peak"),
    [
        ([], None),
        ([(None, 1)], None),
        ([(0, 1)], 1),
        ([(0, 0)], 1),
        ([(0, 1), (1, 2)], 1),
        ([(0, 2), (1, 3), (1.5, 1.7), (4, 5)], 3),
        ([(0, None), (5, 6)], 2),
    ],
)
def test_overlap(times, peak):
    """The overlap is the most executions in their slots at one moment; one that ends there is out of it."""
    assert overlap([span(started, ended) for started, ended in times]) == peak


@pytest.mark.parametrize(
    ("limits", "nearest"),
    [
        ({"runtime": 0.4}, Nearest("runtime", "200 ms", "0.4", 0.5)),
        ({"runtime": 0.4, "queued": 0.625}, Nearest("queued", "500 ms", "0.625", 0.8)),
        ({"runtime": 0.1, "queued": 0.625}, Nearest("runtime", "200 ms", "0.1", 2.0)),
        ({"runtime": 0.4, "overlap": 4}, Nearest("overlap", "1", "4", 4.0)),
        ({"memory": MIB}, Nearest("memory", "-512.0 KiB", "1.04858e+06", 0.0)),
    ],
)
def test_nearest(limits, nearest):
    """The nearest limit is the one of which most was used, whichever way it limits."""
    found = outcome(span(1.0, 1.2), memory_growth=-MIB // 2, **limits).nearest
    assert (found.measure, found.value, found.limit, pytest.approx(found.share)) == (
        nearest.measure,
        nearest.value,
        nearest.limit,
        nearest.share,
    )


def test_no_memory_at_all():
    """A limit of no bytes has a share that can be shown when it is broken."""
    found = outcome(span(), memory_growth=1, memory=Limit(0, "0 B"))
    assert (len(found.failures), math.isfinite(found.nearest.share)) == (1, True)


def test_nothing_measured():
    """Without a figure there is no nearest limit."""
    assert outcome(span(), cpu=1).nearest is None


@pytest.mark.parametrize(
    ("spans", "measure", "note"),
    [
        (
            [span()],
            "memory",
            "the system does not tell how much memory the worker uses, the test ended the worker, or a process of its "
            "pool ended or began meanwhile",
        ),
        ([span()], "cpu", "the system does not tell"),
        ([span(None, 1.0)], "runtime", "no task began and ended in a slot"),
        ([span(None, 1.0)], "throughput", "no task began and ended in a slot"),
    ],
)
def test_notes(spans, measure, note):
    """A limit that cannot be judged is said, and fails nothing."""
    found = outcome(*spans, **{measure: 1})
    assert (found.failures, found.notes) == ((), (f"{measure} was not judged under prefork: {note}",))


@pytest.mark.parametrize(("spec_pools", "judged"), [(None, True), ((PREFORK,), True), ((GEVENT, SOLO), False)])
def test_pools(spec_pools, judged):
    """A budget for other pools limits nothing, and does not miss its tasks either."""
    assert (
        judge(budget(runtime=1, pools=spec_pools), [], "prefork", green=False, memory_growth=None) != BudgetOutcome()
    ) is judged


def test_tasks():
    """A budget looks only at the tasks that it speaks of."""
    slow, quick = span(1, 9, number=1), span(1, 2, number=2, task="proj.tasks.other")
    assert summaries(slow, quick, runtime=2, makespan=2, tasks="*.other") == []


def test_no_match():
    """A budget that speaks of no task fails in the words of an expectation."""
    assert summaries(span(), runtime=1, tasks="proj.tasks.ad") == [
        "celery_budget(tasks='proj.tasks.ad') under prefork: no task of the test matches: it would have said nothing. "
        f"What ran instead: {ADD}. Did you mean {ADD!r}?"
    ]


def test_not_ended():
    """A task without an end has no figures, and does not pass for a quick one."""
    assert summaries(span(ended=None), span(number=2), runtime=1) == [
        f"{ADD}[00000000] under prefork: not ended; celery_budget cannot judge what it takes"
    ]


def test_not_begun():
    """A task that was only published does not pass for a quick one either."""
    waiting = [TaskEntry(str(number), ADD, publications=[(0, 0.0)]) for number in range(7)]
    found = judge(budget(runtime=1, overlap=3), waiting, "prefork", green=False, memory_growth=None)
    named = ", ".join(f"{ADD}[{number}]" for number in range(5))
    assert [failure.summary for failure in found.failures] == [
        f"{named}, and 2 more under prefork: not ended; celery_budget cannot judge what it takes"
    ]


def test_unknown():
    """Nor does one that the worker refused."""
    unknown = TaskEntry("x", ADD, publications=[(0, 0.0)], unknown=True)
    found = judge(budget(runtime=1), [unknown], "prefork", green=False, memory_growth=None)
    assert [failure.summary for failure in found.failures] == [
        f"{ADD}[x] under prefork: never ran, since the worker does not know it; "
        "celery_budget cannot judge what it takes"
    ]


def test_detail_shows_the_worst():
    """The five worst executions stand in a table, the worst first, without columns of which nothing is known."""
    spans = [span(1.0, 1.0 + number, number=number, cpu=number / 100, published=None) for number in range(1, 8)]
    (failure,) = outcome(*spans, runtime=1).failures
    assert failure.detail.splitlines() == [
        "task            id        retries  slot     runtime    cpu",
        "proj.tasks.add  00000007        0  child 7   7.00 s  70 ms",
        "proj.tasks.add  00000006        0  child 6   6.00 s  60 ms",
        "proj.tasks.add  00000005        0  child 5   5.00 s  50 ms",
        "proj.tasks.add  00000004        0  child 4   4.00 s  40 ms",
        "proj.tasks.add  00000003        0  child 3   3.00 s  30 ms",
    ]


def test_detail_explains_the_correction():
    """A reader who takes the time himself is told why the runtime is less."""
    (failure,) = outcome(span(1.0, 3.0, waited=0.5), runtime=1).failures
    assert failure.detail.splitlines() == [
        "task            id        retries  slot     runtime  queued   total  waited",
        "proj.tasks.add  00000000        0  child 0   1.50 s  500 ms  2.50 s  500 ms",
        "(runtime leaves out the time that the slot waited for a processor: waited)",
    ]


def test_detail_adds_up():
    """What the table leaves out of a runtime stands beside it, what the hub waited while the greenlet slept too."""
    taken = span(1.0, 3.0, waited=0.25, slot_waited=0.75, hold=0.1, cpu=0.1)
    (failure,) = outcome(taken, runtime=0.5, green=True, pool="gevent").failures
    heads, figures, _ = (re.split(r" {2,}", line) for line in failure.detail.splitlines())
    row = dict(zip(heads, figures, strict=True))
    assert (row["runtime"], row["waited"]) == ("1.25 s", "750 ms")


@pytest.mark.parametrize(
    ("stored", "claim", "doubt"),
    [
        (0.5, "runtime between 600 ms and 1.10 s is inconclusive against the limit of 1", "nobody can tell how much"),
        (0.02, "runtime 990 ms is inconclusive against the limit of 1", "it lies between 990 ms and 1.01 s, and"),
    ],
)
def test_inconclusive_says_once(stored, claim, doubt):
    """The text holds what was measured, the reason why that does not tell; neither says the other's."""
    (judged,) = outcome(span(1.0, 2.1 if stored == 0.5 else 2.01, stored=stored), runtime=1).judged
    assert judged.text.endswith(claim)
    assert judged.reason.startswith(doubt)
    assert judged.note() == f"{judged.text}: {judged.reason}"


def test_detail_of_memory():
    """A worker that grew shows the executions in which it grew most."""
    grown = [span(number=n, memory_before=0, memory_after=n * MIB) for n in (1, 3, 2)]
    (failure,) = outcome(*grown, memory=MIB, memory_growth=6 * MIB).failures
    assert [line.split()[-2:] for line in failure.detail.splitlines()[1:]] == [
        ["3.0", "MiB"],
        ["2.0", "MiB"],
        ["1.0", "MiB"],
    ]


@pytest.mark.parametrize(("limit", "standing"), [(0.9, "broken"), (1.5, "inconclusive"), (2.5, None)])
def test_where_one_execution_is_known_badly_the_percentile_lies_between_those_at_its_rank(limit, standing):
    """It may stand before the others or behind them."""
    spans = [
        span(1.0, 2.0, number=1),
        span(1.0, 3.0, number=2),
        span(1.0, 10.0, number=3, waited=0.0, slot_waited=8.5),
    ]
    found = outcome(*spans, runtime=limit, percentile=50)
    assert found.standings == ([] if standing is None else [f"runtime {standing}"])


def test_machines_are_told_of_every_limit_that_was_not_kept():
    """Those that were not judged, or refused, are among them."""
    found = outcome(span(1.0, 2.0), runtime=0.5, total=9, cpu=1, memory=1)
    assert found.standings == ["runtime broken", "cpu unjudged", "memory unjudged"]
    assert BudgetOutcome(refused=("cpu",)).standings == ["cpu refused"]
