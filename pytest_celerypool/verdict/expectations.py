"""Judge ``celery_expect``: how each task of a test ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_celerypool.markers import ExpectSpec, matches
from pytest_celerypool.trace import LOST, PASSING_STATES, Span, TaskEntry
from pytest_celerypool.units import format_seconds
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.matching import applies, label, no_match, select

#: How many tasks that fail one expectation are told one by one: a thousand would hide everything else.
MOST_FAILURES = 10


def judge(
    spec: ExpectSpec, tasks: Sequence[TaskEntry], pool: str, waits_for: Callable[[TaskEntry], str]
) -> list[Failure]:
    """Judge one ``celery_expect`` of a test.

    :param spec: what it demands; one that does not speak of `pool` demands nothing.
    :param tasks: all tasks of the test.
    :param pool: the name of the pool.
    :param waits_for: says in one line what a task that has not ended waits for.
    :returns: a failure for each thing that a task did otherwise; all of them together for the later tasks,
        where there are many.
    """
    if not applies(spec.pools, pool):
        return []
    selected = select(spec.tasks, tasks)
    if not selected:
        return [no_match("celery_expect", spec.tasks, tasks, pool)]
    judged = [_judge_task(spec, entry, pool, waits_for) for entry in selected]
    failed = [failures for failures in judged if failures]
    told = [failure for failures in failed[:MOST_FAILURES] for failure in failures]
    if len(failed) > MOST_FAILURES:
        more = len(failed) - MOST_FAILURES
        told.append(Failure(f"… and {more} more of {len(selected)} tasks under {pool}: expected {_demands(spec)}"))
    return told


def _judge_task(spec: ExpectSpec, entry: TaskEntry, pool: str, waits_for: Callable[[TaskEntry], str]) -> list[Failure]:
    named = f"{label(entry)} under {pool}: expected "
    if entry.unknown:
        return [Failure(f"{named}{_demands(spec)}, never ran: it {_reason(entry, waits_for)}")]
    executions = _judge_executions(spec, entry, named)
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
    return "\n".join(
        # What a task replaced itself with goes on under its id.
        (f"{span.task} " if span.task != entry.task else "") + _execution(span)
        for span in entry.spans
    )


def _execution(span: Span) -> str:
    place = f" in {span.slot}" if span.slot else ""
    took = f" after {format_seconds(span.runtime)}" if span.runtime is not None else ""
    raised = f": {span.exception}" if span.exception else ""
    return f"retries={span.retries} {span.state or 'not ended'}{place}{took}{raised}"


def _judge_retries(spec: ExpectSpec, entry: TaskEntry, named: str) -> list[Failure]:
    found = max(span.retries for span in entry.spans)
    if spec.retries is None or found == spec.retries:
        return []
    return [Failure(f"{named}retries={spec.retries}, found {found}", _history(entry))]


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
