"""Which pool and how many slots suit a task, by what was measured of it; nothing else is ever recommended.

A *race* is one test, or the stress pass of one, in which a task ran under several pools: its throughputs can be
compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from pytest_celerypool.pools import POOLS
from pytest_celerypool.verdict.evidence import Evidence
from pytest_celerypool.verdict.scaling import Point, averaged, best

#: A task that computes for more than this part of its runtime cannot run more than twice at once on one processor,
#: however many slots there are: so little is to be gained from slots, and the rest from processors.
PROCESSOR_BOUND = 0.5
#: So many executions at once a comparison of pools takes. Measured: see docs/advice.rst.
ENOUGH = 20
#: So many tasks have to be under way on average (Little's law: the sum of what each took from its publication to its
#: end, divided by the makespan), or they were sent one after the other, and slots could not matter.
AT_ONCE = 2.0
#: The part that a task has to have of all that ran with it: what slots others took decides nothing then.
ALONE = 0.8
#: A pool whose throughput lies below another's by less than this factor is as good. Measured: see docs/advice.rst.
DECISIVE = 1.3
#: The same of the memory a slot takes, which varies less.
MEMORY_DECISIVE = 1.25
#: Slots that waited for a processor for more than this part of their time were disturbed.
DISTURBED = 0.1

COMPUTES, WAITS, UNKNOWN = "processor-bound", "waiting", "unknown"

_PROCESSORS = os.cpu_count() or 1

_ORDER = [pool.name for pool in POOLS]


@dataclass(frozen=True)
class Account:
    """The evidence of one test, or of the stress pass of one.

    :ivar race: what names the comparison it belongs to: the node id without the axis, and whether it is a stress pass.
    :ivar swept: whether the test's concurrency is an axis.
    :ivar alone: whether little else ran with it, so that it is the task's own throughput.
    """

    race: str
    figures: Evidence
    swept: bool = False
    alone: bool = True

    @property
    def point(self) -> Point | None:
        """Its throughput, None if it is not known."""
        makespan, count = self.figures["makespan"], self.figures["count"]
        return Point(self.figures["concurrency"], count / makespan, count) if makespan and count else None

    @property
    def under_way(self) -> float:
        """How many executions were under way on average, by Little's law."""
        makespan = self.figures["makespan"]
        return (sum(self.figures["queued"]) + sum(self.figures["runtime"])) / makespan if makespan else 0.0

    @property
    def missing(self) -> int:
        """How many more executions it takes to compare it; a sweep has enough if each slot had."""
        point = self.point
        if point is None:
            return ENOUGH
        return 0 if self.swept and point.filled else max(0, ENOUGH - point.executions)


@dataclass(frozen=True)
class Objection:
    """What a pool cannot give a task.

    :ivar bars: whether that rules it out.
    """

    pool: str
    text: str
    bars: bool


@dataclass(frozen=True)
class Case:
    """All that is known of one task.

    :ivar pools: those of the run in which its tests ran, in their order.
    """

    task: str
    pools: Sequence[str]
    accounts: Sequence[Account] = ()
    objections: Sequence[Objection] = ()

    def of(self, pool: str) -> list[Evidence]:
        """Return what was seen of the task under a pool."""
        return [each.figures for each in self.accounts if each.figures["pool"] == pool]

    def barred(self, pool: str) -> list[str]:
        """Return why a pool is ruled out, nothing if it is not."""
        return [each.text for each in self.objections if each.pool == pool and each.bars]


@dataclass(frozen=True)
class Row:
    """A pool's figures for one task; None where they are not known.

    :ivar throughput: with so many :attr:`slots`, executions a second, of those at once.
    :ivar executions: how many were sent at once.
    :ivar speedup: of the throughput, over that of solo in the same race.
    :ivar cooperative: the part of the runtime in which the task did not keep the hub.
    :ivar hold: the longest that it kept the hub at once, in seconds.
    :ivar memory: bytes a slot.
    """

    pool: str
    slots: int
    throughput: float | None = None
    executions: int | None = None
    speedup: float | None = None
    cooperative: float | None = None
    hold: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Advice:
    """What follows for one task.

    :ivar kind: `COMPUTES`, `WAITS`, or `UNKNOWN` where processor time was not measured.
    :ivar share: of processor time in the runtime; None if not known.
    :ivar runtime: the median, in seconds; None if nothing ran.
    :ivar pool: None where nothing is recommended; then :attr:`reason` says why.
    :ivar reason: one line.
    """

    case: Case
    kind: str
    share: float | None
    runtime: float | None
    rows: Sequence[Row]
    reason: str
    pool: str | None = None
    slots: int | None = None


# -- measuring


def processor_share(case: Case) -> float | None:
    """Return the part of its runtime in which a task computes.

    Where slots share a process, a task's runtime has in it that others computed: so that of solo counts if there is
    one, else that of prefork, else the largest.
    """
    shares = {pool: share for pool in case.pools if (share := _computing(case.of(pool))) is not None}
    for pool in ("solo", "prefork"):
        if pool in shares:
            return shares[pool]
    return max(shares.values(), default=None)


def _cooperative(case: Case, pool: str) -> float | None:
    """Return the part of its runtime in which a task does not keep the hub of a green pool.

    In that pool the runtime has in it that others kept the hub while the task wanted it back: so the runtime is that
    under solo or prefork, if it ran there.
    """
    kept = [value for figures in case.of(pool) for value in figures["kept"]]
    if not kept:
        return None
    for alone in ("solo", "prefork", pool):
        runtimes = [value for figures in case.of(alone) for value in figures["runtime"]]
        if runtimes and mean(runtimes) > 0:
            return max(0.0, 1 - mean(kept) / mean(runtimes))
    return None


def _computing(found: Iterable[Evidence]) -> float | None:
    """Return processor time over runtime, of the tests in which every execution has both; None if there is none."""
    whole = total = 0.0
    for figures in found:
        if figures["cpu"] and len(figures["cpu"]) == len(figures["runtime"]):
            whole, total = whole + sum(figures["runtime"]), total + sum(figures["cpu"])
    return min(1.0, total / whole) if whole > 0 else None


@dataclass
class Race:
    """The throughputs of a task under several pools in one test, or in the stress pass of one."""

    entries: dict[str, list[Account]] = field(default_factory=dict)

    @property
    def at_once(self) -> bool:
        """Whether tasks were under way together anywhere; the test is the same everywhere."""
        return max(each.under_way for found in self.entries.values() for each in found) >= AT_ONCE

    @property
    def disturbed(self) -> bool:
        """Whether slots waited much for a processor although there was one for each."""
        found = [each.figures for entries in self.entries.values() for each in entries]
        alone = [figures for figures in found if figures["concurrency"] <= _PROCESSORS]
        waited, ran = (sum(sum(figures[part]) for figures in alone) for part in ("waited", "runtime"))
        return waited > DISTURBED * (waited + ran)

    def possible(self, pool: str) -> float:
        """Return the throughput that a pool might have had on a machine of its own, at least what was measured.

        Time in which slots waited for a processor is left out of the makespan, as if each slot had waited as much. That
        part of it is due to slots that waited for each other: more than a processor for each cannot have been missing.
        """
        point = self.point(pool)
        if point is None:
            return 0.0
        found = [each.figures for each in self.entries[pool] if each.figures["concurrency"] == point.slots]
        waited, ran = (sum(sum(figures[part]) for figures in found) for part in ("waited", "runtime"))
        computed = sum(sum(figures["cpu"]) for figures in found)
        if not waited or not computed:
            return point.throughput
        most = min(point.slots, _PROCESSORS) * sum(figures["count"] for figures in found) / computed
        return max(point.throughput, min(most, point.throughput * (ran + waited) / ran))

    def point(self, pool: str) -> Point | None:
        """Return the fewest slots that were as good as any, with their throughput; None without enough executions."""
        return best(averaged(each.point for each in self.entries.get(pool, ()) if each.point and not each.missing))

    def missing(self, pool: str) -> int:
        """Return how many more executions a pool needs."""
        return min((each.missing for each in self.entries.get(pool, ())), default=ENOUGH)


def races(case: Case) -> list[Race]:
    """Return the comparisons in which the task was sent at once, and little else with it."""
    found: dict[str, Race] = {}
    for each in (each for each in case.accounts if each.alone):
        found.setdefault(each.race, Race()).entries.setdefault(each.figures["pool"], []).append(each)
    return [race for race in found.values() if race.at_once]


def _best_race(case: Case, pools: Sequence[str]) -> Race:
    """Return the race in which most of the pools have enough executions, and of those the one with most."""

    def worth(race: Race) -> tuple[int, int]:
        points = [point for pool in pools if (point := race.point(pool)) is not None]
        return len(points), min(
            (point.executions for point in points), default=-min(map(race.missing, pools), default=0)
        )

    return max(races(case), key=worth, default=Race())


# -- concluding


def advise(case: Case) -> Advice:
    """Return which pool and how many slots suit a task."""
    share = processor_share(case)
    kind = UNKNOWN if share is None else COMPUTES if share > PROCESSOR_BOUND else WAITS
    possible = [pool for pool in case.pools if case.of(pool) and not case.barred(pool)]
    race = _best_race(case, possible or [pool for pool in case.pools if case.of(pool)])
    rows = [_row(case, pool, race) for pool in case.pools if case.of(pool)]
    pool, reason = _choose(case, kind, possible, race, {row.pool: row for row in rows})
    slots = next((row.slots for row in rows if row.pool == pool), None)
    runtimes = [value for each in case.accounts for value in each.figures["runtime"]]
    return Advice(case, kind, share, median(runtimes) if runtimes else None, rows, reason, pool, slots)


def _row(case: Case, pool: str, race: Race) -> Row:
    found = case.of(pool)
    point, solo = race.point(pool), race.point("solo")
    slots = point.slots if point else max(figures["concurrency"] for figures in found)
    sizes = [figures["memory"] / slots for figures in found if figures["memory"] and figures["concurrency"] == slots]
    return Row(
        pool,
        slots,
        throughput=point.throughput if point else None,
        executions=point.executions if point else None,
        speedup=point.throughput / solo.throughput if point and solo else None,
        cooperative=_cooperative(case, pool),
        hold=max((value for figures in found for value in figures["hold"]), default=None),
        memory=median(sizes) if sizes else None,
    )


def _choose(
    case: Case, kind: str, possible: Sequence[str], race: Race, rows: Mapping[str, Row]
) -> tuple[str | None, str]:
    """Return the recommended pool, or None, and the reason."""
    tried = [pool for pool in case.pools if case.of(pool) or case.barred(pool)]
    if not possible:
        return None, "no pool of this run can be recommended" if tried else "not enough evidence: it did not run"
    if len(possible) == 1 and len(tried) > 1:
        return possible[0], f"the only pool of this run that nothing speaks against; {_against(case, possible)}"
    compared = [pool for pool in possible if race.point(pool) is not None]
    if len(compared) < 2:
        return None, _not_enough(case, possible, race)
    top = max(compared, key=lambda pool: _throughput(rows[pool]))
    equals = [pool for pool in compared if _throughput(rows[top]) < DECISIVE * race.possible(pool)]
    chosen = _preferred(equals, kind, rows)
    reason = _reason(chosen, equals, compared, kind, rows)
    return chosen, f"{reason}; measured while others used the processors" if race.disturbed else reason


def _throughput(row: Row) -> float:
    return row.throughput or 0.0


def _preferred(equals: Sequence[str], kind: str, rows: Mapping[str, Row]) -> str:
    """Return of pools with the same throughput the one to take.

    A processor-bound task gets the first in Celery's order, prefork or else solo: what computes stops whatever shares
    its process. Another gets the pool whose slots take least memory; where that is no difference, the first too.
    """
    ordered = sorted(equals, key=lambda pool: _ORDER.index(pool) if pool in _ORDER else len(_ORDER))
    if kind == COMPUTES:
        return ordered[0]
    sizes = {pool: size for pool in ordered if (size := rows[pool].memory) is not None}
    if len(sizes) < len(ordered):
        return ordered[0]
    least = min(sizes.values())
    return next(pool for pool in ordered if sizes[pool] < least * MEMORY_DECISIVE)


#: Why a task that computes is better off in a pool than in others with the same throughput.
_ALONE: Mapping[str, str] = {"prefork": "is Celery's default", "solo": "runs nothing else in its process meanwhile"}


def _reason(chosen: str, equals: Sequence[str], compared: Sequence[str], kind: str, rows: Mapping[str, Row]) -> str:
    row = rows[chosen]
    faster = row.speedup is not None and row.speedup >= DECISIVE and chosen != "solo"
    parts = [f"{row.speedup:.2g} times the throughput of solo"] if faster else []
    others = [pool for pool in equals if pool != chosen]
    slower = [pool for pool in compared if pool not in equals and pool != "solo"]
    if slower:
        second = max(slower, key=lambda pool: _throughput(rows[pool]))
        what = "that" if parts else "the throughput"
        parts.append(f"{_throughput(row) / _throughput(rows[second]):.2g} times {what} of {second}")
    if others:
        why = "comes first in Celery's order"
        if kind == COMPUTES:
            why = _ALONE.get(chosen, why)
        elif _lighter(chosen, others, rows):
            why = "takes less memory a slot"
        who = "no other pool is" if len(others) + 1 == len(compared) else f"{', '.join(others)} not"
        parts.append(f"{who} better by more than noise, and {chosen} {why}")
    if row.executions is not None and row.executions < row.slots:
        parts.append(f"more than {row.executions} at once were not tried")
    return "; ".join(parts) or "it was the fastest"


def _lighter(chosen: str, others: Sequence[str], rows: Mapping[str, Row]) -> bool:
    """Whether the slots of the chosen pool take less memory than those of all others."""
    own = rows[chosen].memory
    return own is not None and all((rows[pool].memory or 0.0) >= own * MEMORY_DECISIVE for pool in others)


def _against(case: Case, possible: Sequence[str]) -> str:
    texts: dict[str, list[str]] = {}
    for pool in case.pools:
        if pool not in possible and (reasons := case.barred(pool)):
            texts.setdefault(reasons[0], []).append(pool)
    return "; ".join(f"{', '.join(pools)}: {text}" for text, pools in texts.items())


def _not_enough(case: Case, possible: Sequence[str], race: Race) -> str:
    """Say how many runs are missing under which pools, and how to get them."""
    if len(possible) == 1:
        where = f"under another pool than {possible[0]}; --celery-pools=all runs it under every pool"
        return f"not enough evidence: {ENOUGH} more runs of {case.task} at once {where}"
    missing: dict[int, list[str]] = {}
    for pool in possible:
        if race.missing(pool):
            missing.setdefault(race.missing(pool), []).append(pool)
    runs = "; ".join(
        f"{count} more runs of {case.task} at once under {', '.join(pools)}" for count, pools in missing.items()
    )
    return f"not enough evidence: {runs}: by a test that sends {ENOUGH} and little else, or --celery-stress={ENOUGH}"


# -- what follows for the project


@dataclass(frozen=True)
class Queue:
    """Tasks that one worker runs.

    :ivar name: None where there is but one queue: Celery's default.
    """

    name: str | None
    pool: str
    slots: int
    tasks: Sequence[str]


def queues(advices: Iterable[Advice]) -> list[Queue]:
    """Return the queues that tasks go to: processor-bound ones and waiting ones apart, each pool by itself.

    A queue of waiting tasks gets the most slots that were recommended for one of them, one of processor-bound tasks the
    fewest.
    """
    groups: dict[tuple[str, str], list[Advice]] = {}
    for each in advices:
        if each.pool is not None:
            groups.setdefault((each.kind, each.pool), []).append(each)
    kinds = [kind for kind, _ in groups]
    found = []
    for (kind, pool), members in groups.items():
        slots = [each.slots or 1 for each in members]
        name = "computing" if kind == COMPUTES else kind
        name = name if kinds.count(kind) == 1 else f"{name}-{pool}"
        count = min(slots) if kind == COMPUTES else max(slots)
        found.append(Queue(name, pool, count, sorted(each.case.task for each in members)))
    if len(found) == 1:
        return [Queue(None, found[0].pool, found[0].slots, found[0].tasks)]
    return sorted(found, key=lambda queue: (queue.name or "", queue.pool))


def task_routes(found: Sequence[Queue]) -> dict[str, dict[str, str]]:
    """Return the setting ``task_routes`` that sends each task to its queue; empty where there is but one."""
    return {task: {"queue": queue.name} for queue in found if queue.name for task in queue.tasks}


def command(queue: Queue, app: str) -> str:
    """Return the command line of the worker of a queue.

    :param app: as for ``celery -A``.
    """
    words = f"celery -A {app} worker -P {queue.pool}"
    words += "" if queue.pool == "solo" else f" -c {queue.slots}"
    return words if queue.name is None else f"{words} -Q {queue.name} -n {queue.name}@%h"
