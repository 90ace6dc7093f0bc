"""Judge ``celery_expect``: how each task of a test ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_celerypool.ledger import PASSING_STATES, TaskEntry
from pytest_celerypool.markers import ExpectSpec, matches
from pytest_celerypool.trace import LOST, Span
from pytest_celerypool.units import format_seconds
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.matching import applies, label, names, no_match, select

#: How many tasks that fail one expectation are told one by one: a thousand would hide everything else.
MOST_FAILURES = 10


def judge(
    spec: ExpectSpec,
    tasks: Sequence[TaskEntry],
    pool: str,
    waits_for: Callable[[TaskEntry], str],
    workers: Sequence[str] = (),
) -> list[Failure]:
    """Judge one ``celery_expect`` of a test.

    :param spec: what it demands; one that does not speak of `pool` demands nothing.
    :param tasks: all tasks of the test.
    :param pool: the name of the pool.
    :param waits_for: says in one line what a task that has not ended waits for.
    :param workers: the names of the cluster's workers, if the test has a cluster.
    :returns: a failure for each thing that a task did otherwise; all of them together for the later tasks,
        where there are many.
    """
    if not applies(spec.pools, pool):
        return []
    selected = select(spec.tasks, tasks)
    if not selected:
        return [no_match("celery_expect", spec.tasks, tasks, pool)]
    judged = [_judge_task(spec, entry, _place(entry, pool) if workers else pool, waits_for) for entry in selected]
    failed = [failures for failures in judged if failures]
    told = [failure for failures in failed[:MOST_FAILURES] for failure in failures]
    if len(failed) > MOST_FAILURES:
        more = len(failed) - MOST_FAILURES
        told.append(Failure(f"… and {more} more of {len(selected)} tasks under {pool}: expected {_demands(spec)}"))
    if spec.worker is not None and any(_elsewhere(spec, entry) for entry in selected):
        told.append(Failure(f"celery_expect(worker={spec.worker!r}): {_who_ran_what(selected, workers)}"))
    return told


def _place(entry: TaskEntry, pool: str) -> str:
    """Return where a task of a cluster ran last, or else `pool`."""
    return f"{entry.spans[-1].pool} (worker {entry.spans[-1].worker!r})" if entry.spans else pool


def _who_ran_what(tasks: Sequence[TaskEntry], workers: Sequence[str]) -> str:
    ran = {worker: Counter[str]() for worker in workers}
    for entry in tasks:
        for span in entry.spans:
            ran.setdefault(span.worker, Counter())[span.task] += 1
    return "; ".join(f"{worker} ran {names(counted) if counted else 'none of them'}" for worker, counted in ran.items())


def _judge_task(spec: ExpectSpec, entry: TaskEntry, pool: str, waits_for: Callable[[TaskEntry], str]) -> list[Failure]:
    named = f"{label(entry)} under {pool}: expected "
    if entry.unknown:
        return [Failure(f"{named}{_demands(spec)}, never ran: it {_reason(entry, waits_for)}")]
    executions = [*_judge_worker(spec, entry, named), *_judge_executions(spec, entry, named)]
    if entry.outstanding:
        return [Failure(f"{named}{_demands(spec)}, not ended: it {_reason(entry, waits_for)}"), *executions]
    return [*_judge_state(spec, entry, named), *_judge_retries(spec, entry, named), *executions]


def _demands(spec: ExpectSpec) -> str:
    """Return what is demanded, in words that name the arguments of the marker."""
    demands = [
        f"{name}={value}"
        for name, value in (("state", spec.state), ("retries", spec.retries), ("executions", spec.executions))
        if value is not None
    ]
    if spec.worker is not None:
        demands.append(f"worker={spec.worker!r}")
    if spec.agree:
        demands.append("the same end under every pool")
    return ", ".join(demands)


def _reason(entry: TaskEntry, waits_for: Callable[[TaskEntry], str]) -> str:
    """Return what a task waits for, without its name, with which the message begins already."""
    return waits_for(entry).removeprefix(f"{entry.task}[{entry.id}] ")


def _judge_state(spec: ExpectSpec, entry: TaskEntry, named: str) -> list[Failure]:
    last = entry.spans[-1]
    if spec.state is None or last.state == spec.state:
        return []
    return [Failure(f"{named}state={spec.state}, found {_found(last)}", _history(entry))]


def _found(last: Span) -> str:
    """Return the state of a task's last execution, with what it means where Celery's documentation does not say."""
    if last.state == LOST:
        return (
            "LOST: the slot was left by SystemExit and the like, or died, and Celery told nobody; "
            "whoever waits for the result waits for ever"
        )
    if last.state in PASSING_STATES:
        return f"{last.state}, which is not an end, and no execution followed under the same id"
    return str(last.state)


def _history(entry: TaskEntry) -> str:
    """Return what the task raised, execution by execution where there were several."""
    if len(entry.spans) == 1:
        return entry.spans[0].exception or ""
    return _executions(entry)


def _executions(entry: TaskEntry) -> str:
    several = len({span.worker for span in entry.spans}) > 1
    return "\n".join(
        # What a task replaced itself with goes on under its id.
        (f"{span.task} " if span.task != entry.task else "") + _execution(span, several)
        for span in entry.spans
    )


def _execution(span: Span, several: bool) -> str:
    """Return an execution in one line, with its worker where there were several."""
    place = (f" in {span.slot}" if span.slot else "") + (f" of {span.worker!r}" if several else "")
    took = f" after {format_seconds(span.runtime)}" if span.runtime is not None else ""
    raised = f": {span.exception}" if span.exception else ""
    return f"retries={span.retries} {span.state or 'not ended'}{place}{took}{raised}"


def _judge_retries(spec: ExpectSpec, entry: TaskEntry, named: str) -> list[Failure]:
    found = max(span.retries for span in entry.spans)
    if spec.retries is None or found == spec.retries:
        return []
    return [Failure(f"{named}retries={spec.retries}, found {found}", _history(entry))]


def _judge_worker(spec: ExpectSpec, entry: TaskEntry, named: str) -> list[Failure]:
    """Judge that no other worker of the cluster had any execution of the task."""
    elsewhere = _elsewhere(spec, entry)
    if not elsewhere:
        return []
    found = ", ".join(repr(worker) for worker in dict.fromkeys(span.worker for span in elsewhere))
    return [Failure(f"{named}worker={spec.worker!r}, found {found}", _history(entry))]


def _elsewhere(spec: ExpectSpec, entry: TaskEntry) -> list[Span]:
    """Return the executions of a task that were not by the worker that they are expected of."""
    if spec.worker is None:
        return []
    return [span for span in entry.spans if matches(spec.tasks, span.task) and span.worker != spec.worker]


def _judge_executions(spec: ExpectSpec, entry: TaskEntry, named: str) -> list[Failure]:
    """Judge how often a slot began the same message; of a task that has not ended, only what is too often already."""
    if spec.executions is None:
        return []
    found = Counter[int]()
    for span in entry.spans:
        # Under the same id may be what the task replaced itself with, of which the marker need not speak.
        if matches(spec.tasks, span.task):
            found[span.retries] += span.started is not None
    wrong = {
        retries: count
        for retries, count in found.items()
        if count > spec.executions or (count < spec.executions and not entry.outstanding)
    }
    if not wrong:
        return []
    told = ", ".join(f"{count} with retries={retries}" for retries, count in wrong.items())
    return [Failure(f"{named}executions={spec.executions}, found {told}", _executions(entry))]
