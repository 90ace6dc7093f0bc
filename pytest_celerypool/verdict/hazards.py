"""Hazards that only the test process can see, from the spans of a test: findings without a detector in the worker.

A worker that died says nothing more, a pool's main process does not see what its children wait for, and that a command
went unanswered is known to whoever sent it.
"""

from __future__ import annotations

import linecache
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pytest_celerypool.ledger import PASSING_STATES, Ledger, TaskEntry
from pytest_celerypool.pools import Pool
from pytest_celerypool.trace import LOST, Command, Finding, Kind, Span, Wait
from pytest_celerypool.units import format_seconds

#: The kinds that are found here or at the end of the session; some that detectors declare are found here too, where
#: the worker cannot see them: ``worker-died``, ``child-died``, ``task-lost``, ``revoke-ignored``.
KINDS: Sequence[Kind] = (
    Kind("pools-disagree", "warn", "a test ended differently under two pools"),
    Kind("task-duplicated", "fail", "a task was executed again without being published again"),
    Kind("pool-saturated", "fail", "every slot waited for a task that had no slot", 1.0, "s"),
    Kind("control-blocked", "fail", "a question to the worker was not answered while a task ran"),
    Kind("eta-late", "warn", "a task began late: the only slot was busy", 0.5, "s"),
    Kind("starved", "warn", "a task waited behind a long one while slots were free", 1.0, "s"),
)

_LIMITS = {"revoke-ignored": 0.5, **{kind.name: kind.limit for kind in KINDS if kind.limit is not None}}

#: A task that killed its worker so often, and was delivered again each time, will go on so.
_CRASH_LOOP = 3

#: Lines of a finding that list other tasks.
_MOST = 8


@dataclass(frozen=True)
class Seen:
    """What the test process knows of the worker beside the ledger.

    :ivar concurrency: its slots.
    :ivar death: how it ended by itself, ``None`` if it did not.
    :ivar log: returns what it logged during the test.
    :ivar is_user: tells whether a file is the project's.
    :ivar ended_by_test: whether the test stopped or killed it.
    :ivar queues: those that it consumes.
    :ivar rate_limit: tells the rate limit of a task by its name.
    :ivar limit: tells the threshold of a kind.
    """

    concurrency: int = 1
    death: str | None = None
    log: Callable[[], str] = str
    is_user: Callable[[str], bool] = lambda file: True
    ended_by_test: bool = False
    queues: frozenset[str] = frozenset()
    rate_limit: Callable[[str], object] = lambda name: None
    limit: Callable[[str], float] = _LIMITS.__getitem__


def find(ledger: Ledger, pool: Pool, seen: Seen | None = None) -> list[Finding]:
    """Return what the spans of a test show.

    :param ledger: what happened to the tasks of the test.
    :param pool: the pool that they ran under.
    :param seen: what else is known of the worker.
    """
    seen = Seen() if seen is None else seen
    found = list(_deaths(ledger, pool, seen))
    if not seen.ended_by_test:
        known = {each for finding in ledger.findings if finding.kind == "task-lost" for each in finding.ids}
        found += _lost(ledger, pool, known)
        found += _died_children(ledger, pool, seen)
    found += _duplicates(ledger, pool, seen)
    found += _ignored_revokes(ledger, pool, seen)
    found += _saturation(ledger, pool, seen)
    found += _unheard(ledger, pool, seen)
    found += _late(ledger, pool, seen)
    found += _starved(ledger, pool, seen)
    found += _behind_limited(ledger, pool, seen)
    return found


def _name(span: Span | TaskEntry) -> str:
    return f"{span.task}[{span.id}]"


def _called(span: Span) -> str:
    """Describe an execution in one line."""
    state = span.state or "not ended"
    lasted = "" if span.runtime is None else f" after {format_seconds(span.runtime)}"
    return f"{_name(span)} args={span.args!r} kwargs={span.kwargs!r} in {span.slot or 'no slot'}: {state}{lasted}"


# -- the end of a task

#: How ``faulthandler`` writes a frame.
_FAULT_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>.+)$')


def _fault(seen: Seen) -> list[tuple[str, str]]:
    """Return function and place of the project's frames that ``faulthandler`` wrote of the last crash."""
    _, found, rest = seen.log().rpartition("Fatal Python error: ")
    frames: list[tuple[str, str]] = []
    if not found:
        return frames
    # The thread that crashed comes first, after those of the others at last its own is told as the current one.
    _, _, current = rest.partition("Current thread")
    for line in current.splitlines()[1:]:
        match = _FAULT_FRAME.match(line)
        if match is None or match["file"].endswith("celery/app/trace.py"):
            break
        if seen.is_user(match["file"]):
            place = f"{os.path.basename(match['file'])}:{match['line']} in {match['function']}"
            source = linecache.getline(match["file"], int(match["line"])).strip()
            frames.append((match["function"], f"{place}: {source}" if source else place))
    return frames


def _deaths(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find a worker that ended while a task ran in it."""
    if seen.death is None:
        return
    # What a task that was lost did to its worker is said there.
    told = {each for finding in ledger.findings if finding.kind in ("worker-died", "task-lost") for each in finding.ids}
    spans = [span for entry in ledger.outstanding() for span in entry.open_spans]
    spans += [span for span in ledger.spans if span.state == LOST and span not in spans]
    if not spans:
        yield from _died_of_failure(ledger, pool, seen, told)
    if not spans or any(span.id in told for span in spans):
        return
    waiting = [entry for entry in ledger.outstanding() if not entry.open_spans]
    fault = _fault(seen)
    functions = {function for function, _ in fault}
    first = next((span for span in spans if span.task.rpartition(".")[2] in functions), spans[0])
    others = len(spans) - 1 + len(waiting)
    rest = f", and {others} more of this test with it" if others else ""
    yield Finding(
        kind="worker-died",
        task=first.task,
        pool=pool.name,
        message=f"the worker {seen.death} while this task ran in it{rest}: "
        f"under {pool.name} the tasks share its process, and their callers wait for ever",
        evidence="\n".join(
            [
                *(place for _, place in fault),
                f"the worker {seen.death}",
                *(_called(span) for span in spans[:_MOST]),
                *(f"{_name(entry)} was still queued" for entry in waiting[:_MOST]),
            ]
        ),
        remedy="Let the task fail with an exception instead; run code that can crash in a process of its own.",
        tests=[ledger.test],
        key=seen.death,
        ids=[span.id for span in spans],
    )


#: What a worker logs of the exception that ends it.
_UNRECOVERABLE = re.compile(r"Unrecoverable error: (\w+)\(")


def _died_of_failure(ledger: Ledger, pool: Pool, seen: Seen, told: set[str]) -> Iterator[Finding]:
    """Find a worker that ended with the exception of the task that had ended last, as Celery does with MemoryError."""
    ended = [span for span in ledger.spans if span.ended is not None]
    match = _UNRECOVERABLE.search(seen.log())
    if not ended or match is None or seen.ended_by_test:
        return
    span = max(ended, key=lambda each: each.ended or 0.0)
    if (span.error or {}).get("type") != match[1] or span.id in told:
        return
    yield Finding(
        kind="worker-died",
        task=span.task,
        pool=pool.name,
        message=f"the worker {seen.death} with the {match[1]} that this task had failed with: under {pool.name} "
        "whatever else it had to do is left to nobody",
        evidence="\n".join([_called(span), f"the worker logged: {match[0]}…"]),
        remedy=f"Catch {match[1]} in the task and raise another exception instead.",
        tests=[ledger.test],
        key=seen.death or "",
        ids=[span.id],
    )


def _lost(ledger: Ledger, pool: Pool, known: set[str]) -> Iterator[Finding]:
    """Find tasks whose slot was left without anybody being told, which no detector in the worker saw."""
    for entry in ledger.tasks.values():
        # Of a task that was left by an exception its worker knows more: it may have been told to terminate.
        if entry.lost and entry.id not in known and entry.spans[-1].error is None:
            span = entry.spans[-1]
            yield Finding(
                kind="task-lost",
                task=entry.task,
                pool=pool.name,
                message=f"its slot was lost ({span.exception}) and the {pool.name} pool tells nobody: "
                "whoever waits for the result waits for ever",
                evidence="\n".join([f"it ended with {span.exception}", _called(span)]),
                remedy="Let the task fail with an exception instead; run code that can crash in a process of its own.",
                tests=[ledger.test],
                key=span.exception or "",
                ids=[entry.id],
            )


_WORKER_LOST = "WorkerLostError"


def _child_died(span: Span) -> bool:
    return (span.error or {}).get("type") == _WORKER_LOST


def _died_children(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find executions that cost their child of prefork its life; the caller hears of it there."""
    told = {each for finding in ledger.findings if finding.kind == "child-died" for each in finding.ids}
    for span in ledger.spans:
        if _child_died(span) and span.id not in told:
            yield Finding(
                kind="child-died",
                task=span.task,
                pool=pool.name,
                message=f"it ended the child process that it ran in ({span.exception}): here only this task fails, "
                "under a pool without children it ends the whole worker, or its caller never hears",
                evidence="\n".join([*(place for _, place in _fault(seen)), _called(span)]),
                remedy="Raise an Exception to end a task; run code that can crash in a process of its own.",
                tests=[ledger.test],
                key=str((span.error or {}).get("args")).partition(" Job")[0],
                ids=[span.id],
            )


def _duplicates(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find tasks that ran more often than they were published."""
    for entry in ledger.tasks.values():
        for retries in dict.fromkeys(span.retries for span in entry.spans):
            spans = [span for span in entry.spans if span.retries == retries and span.started is not None]
            why = _why_again(entry, retries, spans, seen)
            if why is None:
                continue
            yield Finding(
                kind="task-duplicated",
                task=entry.task,
                pool=pool.name,
                message=why.message,
                evidence="\n".join([*why.evidence, *(_called(span) for span in spans[:_MOST])]),
                remedy=why.remedy,
                tests=[ledger.test],
                key=why.key,
                ids=[entry.id],
            )


class _Again(NamedTuple):
    """Why a task ran more often than it was published, and what to do about it."""

    key: str
    message: str
    remedy: str
    evidence: tuple[str, ...] = ()


def _why_again(entry: TaskEntry, retries: int, spans: Sequence[Span], seen: Seen) -> _Again | None:
    """Return why a message was executed several times, ``None`` if it was not, or was to be.

    :param retries: of the message, and `spans` all its executions.
    """
    published, due = entry.published(retries), entry.deliveries(retries)
    copies = entry.copies.get(retries)
    # That every queue gets it is all that a fanout exchange is for.
    meant = due if copies is not None and copies.route.kind == "fanout" else published
    # A task that rejects its message may ask for another delivery.
    rejected = sum(span.state == "REJECTED" for span in spans)
    if published == 0 or len(spans) - rejected <= meant:
        return None
    died = [span for span in spans if span.state == LOST or _child_died(span)]
    done = [span for span in spans if span not in died and span.state not in ("REJECTED", *PASSING_STATES)]
    if len(died) >= _CRASH_LOOP:
        return _Again(
            "crash loop",
            f"it ended its process {len(died)} times and was delivered again each time: it will do so for ever",
            "Let it fail for good: leave reject_on_worker_lost off, or count the deliveries.",
        )
    if len(done) <= meant or (seen.ended_by_test and died):
        return None
    often = f"it was executed {len(done)} times and published {published} time{'s' * (published != 1)}: "
    if copies is not None and len(done) <= due:
        queues = " and ".join(map(repr, copies.queues[:_MOST]))
        return _Again(
            "copied",
            f"{often}the exchange {copies.route.exchange!r} put a copy into each of the queues {queues}, so that what "
            "it does is done for each of them",
            "Bind the queues so that each routing key matches one of them alone, or send the task to a queue by name.",
            (f"{queues} are bound to the {copies.route.kind} exchange by what matches {copies.route.key!r}",),
        )
    return _Again(
        "delivered again",
        f"{often}the broker delivered it again, so that what it does is done twice",
        "Make the task safe to repeat, or the visibility timeout longer than its longest run, "
        "ETA and time in the queue.",
    )


# -- promises


def _ignored_revokes(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find tasks that ran on, or even began, after the test had asked the worker to end or drop them."""
    known = {each for finding in ledger.findings if finding.kind == "revoke-ignored" for each in finding.ids}
    now = time.monotonic()
    for command in ledger.commands:
        if command.name not in ("revoke", "terminate"):
            continue
        for task_id in command.ids:
            entry = ledger.tasks.get(task_id)
            span = None if entry is None or task_id in known else _went_on(entry, command, now, pool, seen)
            if span is None:
                continue
            known.add(task_id)
            assert span.started is not None
            after = (span.ended or now) - command.asked
            if span.started - command.asked <= seen.limit("revoke-ignored"):
                verb = "still ran" if span.ended is None else "ended"
                what = (
                    f"it was told to terminate and {verb} {format_seconds(after)} later as if nothing had happened: "
                    f"the {pool.name} pool cannot end a running task"
                )
            else:
                began = format_seconds(span.started - command.asked)
                what = (
                    f"it was revoked before it began, and began {began} later all the same: "
                    f"the {pool.name} worker heard of it only when the task before had ended"
                )
            yield Finding(
                kind="revoke-ignored",
                task=span.task,
                pool=pool.name,
                message=what,
                evidence="\n".join(
                    [
                        _called(span),
                        f"{command.name}(terminate={command.terminate}) was sent "
                        f"{format_seconds(abs(command.asked - span.started))} "
                        f"{'before' if command.asked < span.started else 'after'} its start",
                    ]
                ),
                remedy="Let the task look at times whether it is to stop, or run it under prefork.",
                tests=[ledger.test],
                key="revoke",
                ids=[task_id],
            )


def _went_on(entry: TaskEntry, command: Command, now: float, pool: Pool, seen: Seen) -> Span | None:
    """Return the execution of a task that a revocation should have ended or prevented."""
    slack = seen.limit("revoke-ignored")
    if pool.terminates_on_revoke:
        return None  # where something is raised in the task, its worker sees what becomes of it
    for span in entry.spans:
        if span.started is None or span.state in ("REVOKED", LOST) or (span.ended is None and seen.death):
            continue
        # A worker needs a moment to hear of it.
        begun_later = span.started - command.asked > slack and not pool.answers_control_while_working
        if begun_later or (command.terminate and (span.ended or now) - max(command.asked, span.started) > slack):
            return span
    return None


# -- waiting for one another


def _saturation(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find moments at which every slot waited for tasks that had no slot."""
    least, now = seen.limit("pool-saturated"), time.monotonic()
    for wait in ledger.waits:
        end = wait.ended or _ended(ledger, wait) or now
        if end - wait.began < least:
            continue
        at_once = [
            other
            for other in ledger.waits
            if other.began <= end - least and (other.ended or _ended(ledger, other) or now) >= end
        ]
        if len({other.id for other in at_once}) < seen.concurrency:
            continue
        stuck = [entry for other in at_once for entry in _without_slot(ledger, other, end, seen)]
        if len({other.id for other in at_once if _without_slot(ledger, other, end, seen)}) < seen.concurrency:
            continue
        slots = f"all {seen.concurrency} slots" if seen.concurrency > 1 else "the only slot"
        yield Finding(
            kind="pool-saturated",
            task=wait.task,
            pool=pool.name,
            message=f"{slots} of the {pool.name} worker waited {format_seconds(end - wait.began)} for tasks that no "
            "slot was left for: none of them can go on until a wait is given up",
            evidence="\n".join(
                [
                    *wait.evidence,
                    *(f"{other.task}[{other.id}] waited for {', '.join(other.on[:3])}" for other in at_once[:_MOST]),
                    *(f"{_name(entry)} had no slot" for entry in stuck[:_MOST]),
                ]
            ),
            remedy="Let the tasks follow one another as a chain or a chord instead of waiting inside one, "
            "or give those that are waited for a worker of their own.",
            tests=[ledger.test],
            key="saturated",
            ids=[other.id for other in at_once],
        )
        return


def _ended(ledger: Ledger, wait: Wait) -> float | None:
    """Return when the waiting task itself ended."""
    entry = ledger.tasks.get(wait.id)
    return None if entry is None or not entry.spans else entry.spans[-1].ended


def _without_slot(ledger: Ledger, wait: Wait, until: float, seen: Seen) -> list[TaskEntry]:
    """Return the tasks that somebody waited for and that had not begun at the moment `until`."""
    entries = [ledger.tasks[task_id] for task_id in wait.on if task_id in ledger.tasks]
    return [
        entry
        for entry in entries
        if not entry.unknown
        # What another worker consumes needs no slot of this one.
        and (entry.receptions or (entry.queue is None and entry.route is None) or entry.queue in seen.queues)
        and not any(span.started is None or span.started < until for span in entry.spans)
        and not (entry.eta is not None and not entry.receptions)
    ]


def _unheard(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find questions that went unanswered since a task kept the worker from hearing them."""
    if seen.death is not None or seen.ended_by_test:
        return
    for command in ledger.commands:
        if not command.unheard:
            continue
        busy = [
            span
            for span in ledger.spans
            if span.started is not None
            and span.started <= command.asked + 0.05
            and (span.ended is None or span.ended >= command.answered - 0.05)
            # Elsewhere it is not the task that keeps the worker from answering.
            and (not pool.answers_control_while_working or _kept(span, command.answered - command.asked))
        ]
        if busy:
            span = busy[0]
            yield Finding(
                kind="control-blocked",
                task=span.task,
                pool=pool.name,
                message=f"{command.name}() was not answered within {format_seconds(command.answered - command.asked)} "
                f"since this task kept the {pool.name} worker: to whoever monitors it, it looks dead",
                evidence="\n".join([_called(span), f"{command.name} was asked while it ran"]),
                remedy="Keep tasks short under this pool, or monitor the worker by other means.",
                tests=[ledger.test],
                key=command.name,
                ids=[span.id],
            )
            return


def _kept(span: Span, seconds: float) -> bool:
    """Whether a task of a green pool kept the hub for most of some time."""
    return span.hold is not None and span.hold >= 0.8 * seconds


def _late(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find tasks that began after their ETA since the only slot was busy."""
    if seen.concurrency != 1 or pool.forks:
        return
    offset = time.monotonic() - time.time()
    for entry in ledger.tasks.values():
        due = _moment(entry.eta)
        late = entry.spans[-1] if entry.spans else None
        # The ETA is that of the last publication, which may be a retry.
        if due is None or late is None or late.started is None or late.retries != entry.publications[-1][0]:
            continue
        due += offset
        started = late.started
        if started - due <= seen.limit("eta-late"):
            continue
        span = next(
            (
                span
                for span in ledger.spans
                if span.id != entry.id and span.started and span.ended and span.started <= due <= span.ended <= started
            ),
            None,
        )
        if span is not None:
            yield Finding(
                kind="eta-late",
                task=entry.task,
                pool=pool.name,
                message=f"it began {format_seconds(started - due)} after its ETA: {_name(span)} had the only slot, "
                f"and the {pool.name} worker looks at its timer only between two tasks",
                evidence="\n".join([f"ETA {entry.eta}", _called(span), _called(late)]),
                remedy="Do not rely on an ETA under this pool, or keep the other tasks short.",
                tests=[ledger.test],
                key=span.task,
                ids=[entry.id],
            )


def _moment(eta: str | None) -> float | None:
    """Return an ETA as seconds since the epoch."""
    if eta is None:
        return None
    try:
        moment = datetime.fromisoformat(eta)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _starved(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find tasks that began only when a long one had ended, although slots were free all the time."""
    spans = [span for span in ledger.spans if span.started is not None and span.ended is not None]
    least = seen.limit("starved")
    # Whoever made others wait ran for as long, but for 0.4 s at its ends, or kept its hub: they are few of many.
    long = [
        span for span in spans if _kept(span, least) or (not pool.green and (span.runtime or 0.0) >= 3 * least - 0.4)
    ]
    for span in spans:
        entry = ledger.tasks[span.id]
        if span.published is None or entry.eta is not None or seen.rate_limit(span.task):
            continue
        began, started = span.published, span.started or 0.0
        if started - began < least:
            continue
        before = [
            other
            for other in long
            if other.id != span.id
            and (other.started or 0.0) <= began + 0.1
            and -0.05 <= started - (other.ended or 0.0) <= 0.3
            # Where nobody keeps a hub, a busy machine may be as slow.
            and (_kept(other, started - began) or (not pool.green and started - began >= 3 * least))
        ]
        if before and _peak(spans, began, started - 0.3, span) < seen.concurrency:
            yield Finding(
                kind="starved",
                task=span.task,
                pool=pool.name,
                message=f"it waited {format_seconds(started - began)} until {_name(before[0])} had ended, although "
                f"never more than {_peak(spans, began, started - 0.3, span)} of {seen.concurrency} slots were busy",
                evidence="\n".join([_called(before[0]), _called(span)]),
                remedy="Give long and short tasks different queues and workers, and see what the long one keeps.",
                tests=[ledger.test],
                key=before[0].task,
                ids=[span.id],
            )


def _behind_limited(ledger: Ledger, pool: Pool, seen: Seen) -> Iterator[Finding]:
    """Find tasks that the worker did not fetch, with slots free, since it held as many that wait for their rate limit.

    It fetches so many that it has not acknowledged yet, whatever keeps them:
    https://docs.celeryq.dev/en/stable/userguide/optimizing.html#prefetch-limits.
    """
    spans = [span for span in ledger.spans if span.received is not None and span.started is not None]
    rated = {task for task in {span.task for span in spans} if seen.rate_limit(task)}
    limited = [span for span in spans if span.task in rated]
    for span in spans:
        published, received = span.published, span.received
        if published is None or received is None or received - published < seen.limit("starved") or span.task in rated:
            continue
        waited = received - published
        # It gets the message as soon as one that it held has gone: what it holds at either end it has held throughout.
        held = _held(limited, received) if _held(limited, published + 0.1) else []
        busy = _busy(spans, published, received) / seen.concurrency if held else waited
        if busy < waited / 2:
            yield Finding(
                kind="starved",
                task=span.task,
                pool=pool.name,
                message=f"it waited {format_seconds(waited)} in its queue, and the slots were busy for "
                f"{format_seconds(busy)} of that: the {pool.name} worker had fetched as many messages as it may, and "
                f"held them until the rate limit of {held[0].task} would let them begin",
                evidence="\n".join(
                    [f"{other.task} has the rate limit {seen.rate_limit(other.task)}" for other in held[:1]]
                    + [f"{_name(other)} was held meanwhile" for other in held[:_MOST]]
                    + [_called(span)]
                ),
                remedy="Give tasks with a rate limit a queue and a worker of their own.",
                tests=[ledger.test],
                key=held[0].task,
                ids=[span.id],
            )


def _held(spans: Iterable[Span], moment: float) -> list[Span]:
    """Return the executions that a worker had received at a moment, and that were yet to begin."""
    return [span for span in spans if (span.received or 0.0) <= moment <= (span.started or 0.0)]


def _busy(spans: Iterable[Span], begin: float, end: float) -> float:
    """Return the seconds that executions took between two moments, all together."""
    return sum(max(0.0, min(span.ended or end, end) - max(span.started or end, begin)) for span in spans)


def _peak(spans: Iterable[Span], begin: float, end: float, left_out: Span) -> int:
    """Return the most executions that there were at once between two moments."""
    inside = [
        span for span in spans if span is not left_out and (span.started or 0) < end and (span.ended or end) > begin
    ]
    moments = [max(begin, span.started or 0) for span in inside]
    return max((sum((s.started or 0) <= at < (s.ended or end) for s in inside) for at in moments), default=0)
