"""Judge a test at the end of its call phase: drain, compare the spans with the markers, raise there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.cluster import no_such_worker
from pytest_celerypool.confirming import confirm
from pytest_celerypool.databases import hidden_rows
from pytest_celerypool.errors import WorkerError
from pytest_celerypool.floors import growth_range, refused
from pytest_celerypool.handle import Handle, TaskTimeoutError
from pytest_celerypool.keys import HANDLE, MARKERS, NOTES, OBSERVED, PLACE, POLICIES, RESULT, SETTINGS
from pytest_celerypool.launch import growth as growth_between
from pytest_celerypool.lease import Observed
from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import BudgetSpec, ExpectSpec, Markers, matches
from pytest_celerypool.policies import Policies
from pytest_celerypool.pools import Pool
from pytest_celerypool.stress import repeat
from pytest_celerypool.units import format_seconds
from pytest_celerypool.variants import pool_of_variant
from pytest_celerypool.verdict import (
    Failure,
    agreement,
    budgets,
    evidence,
    expectations,
    findings,
    hazards,
    matching,
    relative,
    scaling,
)
from pytest_celerypool.witness import testify
from pytest_celerypool.worker import WorkerHandle

#: Seconds that a test which failed already waits for its tasks: only long enough to tell what was going on.
_FAILED_DRAIN_S = 1.0

#: The same where code in C keeps the hub, and nobody has told of it yet.
_KEPT_DRAIN_S = 4.0

#: Lines of a worker's log that a report shows of its beginning and its end, and characters of each line.
_LOG_BEGINNING, _LOG_END, _LOG_LINE = 100, 500, 4000

_CLUSTER_UNSTRESSED = "--celery-stress: the tasks of tests with celery_pool_cluster were not repeated"


def judge(item: pytest.Item, failed: bool) -> list[Failure]:
    """Drain and judge the test that just ran.

    :param item: the test; nothing is judged unless it has a worker.
    :param failed: whether the test itself failed: then nothing more is demanded of it.
    :returns: what its tasks did that they must not do, in the order in which it is to be read.
    """
    handle = item.stash.get(HANDLE, None)
    if handle is None:
        return []
    read, observed = item.stash[MARKERS], item.stash[OBSERVED]
    failures = _eager(observed)
    failures += _drained(handle, failed)
    tasks = list(handle.ledger.tasks.values())
    failures += _judge_expectations(read, handle, tasks)
    growth = _growth(observed, handle)
    outcomes = _judge_budgets(item, handle, tasks, growth, failed)
    item.config.stash[NOTES] += [note for note in _uncorrected(read, tasks) if note not in item.config.stash[NOTES]]
    failures += [failure for outcome in outcomes for failure in outcome.failures]
    failures += _unknown(handle, read, observed)
    settings = item.config.stash[SETTINGS]
    if settings.stress and not failed:
        _stress(item, handle)
    policies = item.config.stash[POLICIES]
    found = [
        *handle.findings,
        *(
            finding
            for member in handle.members
            for finding in hazards.find(
                member.own_ledger(), member.pool, _seen(member, policies, str(item.config.rootpath))
            )
        ),
    ]
    judged = findings.judge(found, policies.of, read.allows)
    item.stash[RESULT] = {
        "only_findings": bool(judged.failures) and not failures and not failed,
        "findings": judged.data(),
        "agent_errors": [error for member in handle.members for error in member.ledger.agent_errors],
        "left": [[entry.task, handle.why_never(entry)] for entry in handle.ledger.outstanding()],
        "unjudged": [note for outcome in outcomes for note in outcome.notes],
        "agree": [] if failed else _facts(item, handle, read, tasks),
        "ratios": [] if failed else _ratios(item, handle, read, tasks, growth),
        "evidence": _evidence(item, handle) if settings.wants_evidence else [],
        **_advice(item, handle),
        **_nearest(outcomes),
        **_swept(item, handle, failed),
    }
    item.user_properties += _properties(item, handle)
    item.user_properties += [("celery_budget", each) for outcome in outcomes for each in outcome.standings]
    item.user_properties += [("celery_finding", findings.headline(finding)) for finding, _ in judged.findings]
    return [] if failed else [*failures, *judged.failures]


def _stress(item: pytest.Item, handle: Handle) -> None:
    """Send the test's tasks again; those of a cluster are left alone."""
    settings, notes = item.config.stash[SETTINGS], item.config.stash[NOTES]
    if isinstance(handle, WorkerHandle):
        problem = repeat(handle, settings.stress, f"{settings.stress_seed} {item.nodeid}")
        notes += [f"{item.nodeid}: {problem}"] if problem else []
    elif _CLUSTER_UNSTRESSED not in notes:
        notes.append(_CLUSTER_UNSTRESSED)


def may_disagree(item: pytest.Item) -> bool:
    """Whether nobody compares the outcomes of this test under different pools, and the test does not know of it."""
    read = item.stash.get(MARKERS, Markers())
    return not any(spec.agree for spec in read.expects) and not any(
        "pools-disagree" in allow.kinds for allow in read.allows
    )


def _seen(handle: WorkerHandle, policies: Policies, root: str) -> hazards.Seen:
    """Return what the test process knows of the worker beside the ledger."""
    death = None if handle.ended_by_test else handle.launched.death()
    return hazards.Seen(
        concurrency=handle.concurrency,
        death=death,
        log=lambda: handle.log,
        is_user=Frames(root).is_user,
        ended_by_test=handle.ended_by_test,
        queues=frozenset(handle.queues),
        rate_limit=handle.rate_limit,
        limit=policies.limit,
    )


def _eager(observed: Observed) -> list[Failure]:
    if not observed.eager:
        return []
    names = ", ".join(dict.fromkeys(observed.eager))
    return [
        Failure(
            f"ran eagerly in the test's process, so that no worker saw it: {names}. "
            "Something set task_always_eager during the test; without that it runs in the worker."
        )
    ]


def _drained(handle: Handle, failed: bool) -> list[Failure]:
    """Wait for the end of the test's tasks; a death that the test did not cause is a failure of its own."""
    if handle.members and all(member.ended for member in handle.members):
        handle.pump()
        return []
    try:
        _drain(handle, failed)
    except TaskTimeoutError:
        pass  # what has not ended, and why, is said by the expectation that demands it
    except WorkerError as exc:
        first, _, rest = str(exc).partition("\n")
        return [Failure(first, rest)]
    return []


def _drain(handle: Handle, failed: bool) -> None:
    """Wait for the end of the test's tasks, not for long if the test has failed."""
    try:
        handle.drain(min(handle.timeout, _FAILED_DRAIN_S) if failed else None)
    except TaskTimeoutError:
        # Code in C that keeps the interpreter keeps the agent too, which can tell of it only afterwards.
        if not failed or all(member.launched.answers() for member in handle.members if member.pool.green):
            raise
        handle.drain(min(handle.timeout, _KEPT_DRAIN_S))


def _unknown(handle: Handle, read: Markers, observed: Observed) -> list[Failure]:
    """Report the tasks that the worker does not know, unless the test or one of its markers hears of it anyway."""
    specs: list[ExpectSpec | BudgetSpec] = [*read.expects, *read.budgets]
    return [
        Failure(handle.waits_for(entry))
        for entry in handle.ledger.unknown()
        if entry.id not in observed.awaited
        and not any(
            matches(spec.tasks, entry.task) and matching.applies(spec.pools, handle.pool_of(entry)) for spec in specs
        )
    ]


def _concerned(pools: tuple[Pool, ...] | None, handle: Handle, tasks: list[TaskEntry]) -> list[TaskEntry] | None:
    """Return the tasks that a marker with that ``pools=`` speaks of, ``None`` if no worker has such a pool."""
    if pools is None:
        return tasks
    if not any(matching.applies(pools, member.pool.name) for member in handle.members):
        return None
    return [entry for entry in tasks if matching.applies(pools, handle.pool_of(entry))]


def _judge_expectations(read: Markers, handle: Handle, tasks: list[TaskEntry]) -> list[Failure]:
    failures = []
    workers = [] if isinstance(handle, WorkerHandle) else [member.name for member in handle.members]
    for spec in read.expects:
        concerned = _concerned(spec.pools, handle, tasks)
        if spec.worker is not None and spec.worker not in workers:
            failures.append(Failure(f"celery_expect(worker={spec.worker!r}): {no_such_worker(spec.worker, workers)}"))
        elif concerned is not None:
            anywhere = replace(spec, pools=None)
            failures += expectations.judge(anywhere, concerned, handle.place, handle.waits_for, workers)
    return failures


def _growth(observed: Observed, handle: Handle) -> int | None:
    """Return the bytes by which the workers' processes grew, None if that is not known or wanted."""
    if observed.memory_before is None or any(member.ended_by_test for member in handle.members):
        return None
    after = handle.settled_memory()
    return None if after is None else growth_between(observed.memory_before, after)


def _judge_budgets(
    item: pytest.Item, handle: Handle, tasks: list[TaskEntry], growth: int | None, failed: bool
) -> list[budgets.BudgetOutcome]:
    """Judge the budgets of a test, one by one; those of a test that failed are only measured."""
    found = []
    for spec in item.stash[MARKERS].budgets:
        concerned = _concerned(spec.pools, handle, tasks)
        if concerned is not None:
            found.append(_judge_budget(item, replace(spec, pools=None), handle, concerned, growth, failed))
    return found


def _judge_budget(
    item: pytest.Item, spec: BudgetSpec, handle: Handle, tasks: list[TaskEntry], growth: int | None, failed: bool
) -> budgets.BudgetOutcome:
    settings = item.config.stash[SETTINGS]
    green = any(member.pool.green for member in handle.members)
    grown = None if growth is None else growth_range(spec, growth)

    def judge_with(instead: budgets.Instead) -> budgets.BudgetOutcome:
        return budgets.judge(spec, tasks, handle.place, green=green, memory_growth=grown, instead=instead)

    outcome = judge_with({})
    if failed or not isinstance(handle, WorkerHandle) or handle.launched.death() is not None:
        return outcome
    times = settings.budget_confirm if spec.confirm is None else spec.confirm
    if times:
        outcome = confirm(handle, spec, outcome, times, judge_with)
    low = refused(handle, spec)
    return replace(outcome, refused=tuple(low), other_failures=(*outcome.other_failures, *low.values()))


_UNCORRECTED = (
    "budgets: times are not corrected for what other processes cost, since this system does not tell how long a thread "
    "waited for a processor (/proc/thread-self/schedstat)"
)


def _uncorrected(read: Markers, tasks: list[TaskEntry]) -> list[str]:
    """Say that a budget of time was judged by the clock alone, where that is so."""
    timed = any(budget.timed for budget in read.budgets)
    unknown = any(span.runtime is not None and span.waited is None for entry in tasks for span in entry.spans)
    return [_UNCORRECTED] if timed and unknown else []


def _ratios(
    item: pytest.Item, handle: Handle, read: Markers, tasks: list[TaskEntry], growth: int | None
) -> list[tuple[int, relative.Facts]]:
    """Return what each relative budget of the test compares with the other pools, and its number on the test."""
    pool = pool_of_variant(item)
    name = handle.place if pool is None else pool.name
    found = [relative.facts(spec, tasks, name, growth) for spec in read.budgets]
    return [(number, each) for number, each in enumerate(found) if each is not None]


def _evidence(item: pytest.Item, handle: Handle) -> list[evidence.Evidence]:
    """Return what the tasks of the test took; the memory, which takes milliseconds to read, only for advice."""
    return [
        each
        for member in handle.members
        for each in evidence.of_test(
            member.ledger.spans,
            pool=member.pool.name,
            column=item.stash[PLACE].column if PLACE in item.stash else member.pool.name,
            concurrency=member.concurrency,
            memory=member.launched.memory() if item.config.stash[SETTINGS].advise else None,
        )
    ]


def _nearest(outcomes: list[budgets.BudgetOutcome]) -> dict[str, Any]:
    found = [outcome.nearest for outcome in outcomes if outcome.nearest is not None]
    nearest = max(found, key=lambda each: each.share, default=None)
    if nearest is None:
        return {}
    text = f"{nearest.measure} {nearest.share:.0%} ({nearest.value} of {nearest.limit})"
    return {"nearest": text, "share": nearest.share}


def _swept(item: pytest.Item, handle: Handle, failed: bool) -> dict[str, Any]:
    """Return the throughput of a test whose concurrency is an axis, for the table at the end."""
    pools = item.stash[MARKERS].pools
    if failed or pools is None or not pools.sweeps or not isinstance(handle, WorkerHandle):
        return {}
    point = scaling.point(matching.spans_of("*", handle.ledger.tasks.values()), handle.concurrency)
    if point is None:
        return {}
    item.user_properties.append(("celery_throughput", round(point.throughput, 6)))
    return {"sweep": {"pool": handle.pool.name, **point.data()}}


def _advice(item: pytest.Item, handle: Handle) -> dict[str, Any]:
    """Return what advice needs beside evidence; a cluster's workers share their work, so that it tells of no pool."""
    settings = item.config.stash[SETTINGS]
    if not settings.advise or not isinstance(handle, WorkerHandle):
        return {}
    return {"advice": testify(handle, settings.app)}


def _facts(item: pytest.Item, handle: Handle, read: Markers, tasks: list[TaskEntry]) -> list[dict[str, Any]]:
    """Return what each ``agree=`` of the test compares with the other pools."""
    pool = pool_of_variant(item)
    name = handle.place if pool is None else pool.name
    if any("pools-disagree" in allow.kinds and matching.applies(allow.pools, name) for allow in read.allows):
        return []
    found = []
    for number, spec in enumerate(read.expects):
        concerned = _concerned(spec.pools, handle, tasks)
        if spec.agree and concerned is not None:
            stored = _stored_results(handle, matching.select(spec.tasks, concerned)) if "result" in spec.agree else {}
            facts = agreement.facts(concerned, spec.agree, stored, spec.tasks)
            found.append({"number": number, "pool": name, "facts": facts})
    return found


#: States that a task which has ended cannot have. Celery publishes a retry before it stores RETRY, which may so come
#: after the SUCCESS of that retry and stay (``celery.app.trace``, ``handle_retry``).
_ON_THE_WAY = frozenset({"RECEIVED", "STARTED", "RETRY"})


def _stored_results(handle: Handle, tasks: list[TaskEntry]) -> dict[str, str]:
    """Return the text of each task's result as the backend has it."""
    return {
        entry.id: _stored_result(handle.app.backend, entry.id) if entry.state is not None else "not ended"
        for entry in tasks
    }


def _stored_result(backend: Any, task_id: str) -> str:
    try:
        stored = backend.get_task_meta(task_id)
        return agreement.OVERWRITTEN if stored["status"] in _ON_THE_WAY else repr(stored.get("result"))
    except Exception as exc:  # noqa: BLE001 - a serializer or a __repr__ of the user's may raise anything
        return f"unreadable: {type(exc).__name__}: {exc}"


def _properties(item: pytest.Item, handle: Handle) -> list[tuple[str, object]]:
    """Return the figures of the spans for JUnit and other readers of ``user_properties``; seconds."""
    spans = [span for span in handle.spans if span.ended is not None]
    properties: list[tuple[str, object]] = [
        ("celery_pool", item.stash[PLACE].column if PLACE in item.stash else handle.place),
        ("celery_concurrency", sum(member.concurrency for member in handle.members)),
        ("celery_spans", len(spans)),
    ]
    for name in ("runtime", "queued", "total", "cpu", "hold"):
        figures = [value for span in spans if (value := getattr(span, name)) is not None]
        if figures:
            properties.append((f"celery_{name}_max_s", round(max(figures), 6)))
    return properties


def render(failures: list[Failure]) -> str:
    """Return the text of a failed verdict."""
    return "\n\n".join(str(failure) for failure in failures)


def sections(item: pytest.Item) -> list[tuple[str, str]]:
    """Return what a failing test's report shows of its worker: its log of just this test, and hints."""
    handle = item.stash.get(HANDLE, None)
    if handle is None:
        return []
    found = []
    server = handle.server_notice()
    if server:
        found.append(("Celery: broker", server))
    hint = hidden_rows(item)
    if hint:
        found.append(("Celery: database", hint))
    for member in handle.members:
        log = member.log.rstrip()
        if log:
            log = log if item.config.get_verbosity() > 1 else excerpt(log)
            found.append((f"Celery worker log ({member.label}, this test only)", log))
    spans = handle.spans
    if spans:
        lines = [
            f"{span.task}[{span.id}] {span.state or 'not ended'}"
            f" in {span.slot or 'no slot'}"
            + (f" of {span.worker!r}" if len(handle.members) > 1 else "")
            + (f", {format_seconds(span.runtime)}" if span.runtime is not None else "")
            + (f", {span.exception}" if span.exception else "")
            for span in spans[:50]
        ]
        if len(spans) > 50:
            lines.append(f"… and {len(spans) - 50} more")
        found.append((f"Celery spans ({handle.place})", "\n".join(lines)))
    return found


def excerpt(log: str) -> str:
    """Return what a report shows of a log: all of it unless it is very long, then its beginning and its end."""
    lines = log.splitlines()
    left_out = len(lines) - _LOG_BEGINNING - _LOG_END
    if left_out > 0:
        note = f"… {left_out} of {len(lines)} lines are left out here; -vv shows them all …"
        lines[_LOG_BEGINNING:-_LOG_END] = [note]
    return "\n".join(line if len(line) <= _LOG_LINE else f"{line[:_LOG_LINE]}…" for line in lines)
