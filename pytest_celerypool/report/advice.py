"""The advice at the end of a session: what was measured of each task, the pool that follows, routes and workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_celerypool.pools import pool as pool_named
from pytest_celerypool.report.wrapping import wrapped
from pytest_celerypool.units import format_bytes, format_seconds
from pytest_celerypool.verdict import advice
from pytest_celerypool.verdict.advice import Account, Advice, Case, Objection, Queue, Row
from pytest_celerypool.verdict.evidence import Evidence

#: What ``celery -A`` gets where no module holds the application.
_UNKNOWN_APP = "MODULE:APP"


class Counsel:
    """What the reports of a session say of its tasks.

    :param columns: the names of the pools of the run, in their order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._order = list(columns)
        #: Those under which tests ran.
        self._ran: set[str] = set()
        self._app = ""
        #: By node id, so that a rerun takes the place of what it repeats.
        self._accounts: dict[tuple[str, str, bool], Account] = {}
        self._failed: dict[str, tuple[str, frozenset[str]]] = {}
        #: Hard and soft time limit of each task, in seconds.
        self._limits: dict[str, tuple[float | None, float | None]] = {}
        self._tasks: dict[str, None] = {}

    def add(self, report: Any, data: Mapping[str, Any]) -> None:
        """Take in what the report of a test carries for advice.

        :param data: its plain data.
        """
        told = data["advice"]
        self._app = self._app or told["app"]
        self._ran.add(told["pool"])
        test = data.get("test", report.nodeid)
        self._tasks |= dict.fromkeys(told["limits"])
        for task, limits in told["limits"].items():
            self._limits[task] = tuple(limits)
        for stressed, found in ((False, data.get("evidence", ())), (True, told["stressed"])):
            whole = sum(sum(figures["runtime"]) for figures in found)
            for figures in found:
                alone = sum(figures["runtime"]) >= advice.ALONE * whole
                self._add(report.nodeid, test, figures, stressed=stressed, alone=alone)
        self._failed.pop(report.nodeid, None)
        if not report.passed and not data.get("only_findings"):
            self._failed[report.nodeid] = (told["pool"], frozenset(told["limits"]))

    @property
    def _pools(self) -> list[str]:
        """The pools that tests ran under, in their order."""
        return [name for name in dict.fromkeys([*self._order, *sorted(self._ran)]) if name in self._ran]

    def _add(self, nodeid: str, test: str, figures: Evidence, *, stressed: bool, alone: bool) -> None:
        swept = figures["column"] != figures["pool"] and not stressed
        race = f"{test} stressed" if stressed else test
        self._accounts[nodeid, figures["task"], stressed] = Account(race, figures, swept, alone)

    def advices(self, findings: Iterable[Mapping[str, Any]]) -> list[Advice]:
        """Return the advice for every task, in the order in which they were seen.

        :param findings: all of the session, as plain data.
        """
        findings = list(findings)
        return [advice.advise(self._case(task, findings)) for task in self._tasks]

    def _case(self, task: str, findings: Sequence[Mapping[str, Any]]) -> Case:
        accounts = [each for each in self._accounts.values() if each.figures["task"] == task]
        objections = [*self._limits_ignored(task), *self._tests_failed(task), *_found(task, findings)]
        seen = {each.figures["pool"] for each in accounts} | {each.pool for each in objections if each.bars}
        return Case(task, [pool for pool in self._pools if pool in seen], accounts, objections)

    def _limits_ignored(self, task: str) -> Iterator[Objection]:
        hard, soft = self._limits.get(task, (None, None))
        for name in self._pools:
            pool = pool_named(name)
            if pool.custom:
                continue  # nobody knows what it enforces
            if soft and not pool.enforces_soft_time_limit:
                yield Objection(name, f"ignores its soft time limit of {soft:g} s", bars=True)
            if hard and not pool.enforces_hard_time_limit:
                yield Objection(name, f"ignores its hard time limit of {hard:g} s", bars=True)

    def _tests_failed(self, task: str) -> Iterator[Objection]:
        for nodeid, (pool, tasks) in self._failed.items():
            if task in tasks:
                yield Objection(pool, f"fails {nodeid}", bars=True)

    def lines(self, findings: Iterable[Mapping[str, Any]], width: int) -> list[str]:
        """Return the lines of the section.

        :param findings: all of the session, as plain data.
        :param width: of the terminal, in columns.
        """
        found = self.advices(findings)
        if not found:
            return ["no task of yours ran under a worker of this run"]
        lines: list[str] = []
        for each in found:
            lines += [*_task(each, width), ""]
        return [*lines, *self._follows(found, width)]

    def _follows(self, found: Sequence[Advice], width: int) -> Iterator[str]:
        queues = advice.queues(found)
        if not queues:
            return
        routes = advice.task_routes(queues)
        if routes:
            yield "task_routes = {"
            yield from (f'    "{task}": {{"queue": "{route["queue"]}"}},' for task, route in routes.items())
            yield "}"
        for queue in queues:
            yield advice.command(queue, self._app or _UNKNOWN_APP)
        yield from _left(found, queues, width)


def _left(found: Sequence[Advice], queues: Sequence[Queue], width: int) -> list[str]:
    """Say which tasks nothing is recommended for, so that their queue keeps its worker."""
    left = [each.case.task for each in found if each.pool is None]
    if not left or queues[0].name is None:
        return []
    return wrapped(f"without advice, and so left on the queue that they have: {', '.join(left)}", width, "")


def _found(task: str, findings: Iterable[Mapping[str, Any]]) -> Iterator[Objection]:
    """Yield what the agents found of a task; what only warns does not rule its pool out."""
    said = set()
    for finding in findings:
        identity = finding["pool"], finding["kind"]
        if finding["task"] == task and identity not in said:
            said.add(identity)
            failing = finding["policy"] == "fail"
            yield Objection(finding["pool"], f"{finding['kind']}{'' if failing else ' (warning)'}", bars=failing)


def _task(found: Advice, width: int) -> Iterator[str]:
    about = []
    if found.share is not None:
        about.append(f"{found.kind}, {found.share:.0%} processor time")
    if found.runtime is not None:
        about.append(f"runtime {format_seconds(found.runtime)}")
    yield f"{found.case.task}: {', '.join(about) or 'did not run'}"
    yield from _table(found.rows)
    by_pool: dict[str, list[str]] = {}
    for objection in found.case.objections:
        by_pool.setdefault(objection.pool, []).append(objection.text)
    texts: dict[str, list[str]] = {}
    for pool, reasons in by_pool.items():
        texts.setdefault("; ".join(dict.fromkeys(reasons)), []).append(pool)
    for text, pools in texts.items():
        yield from wrapped(f"{', '.join(pools)}: {text}", width, "  ")
    if found.pool is None:
        yield from wrapped(f"=> {found.reason}", width, "  ")
    else:
        slots = "" if found.pool == "solo" else f" with {found.slots} slots" if found.slots != 1 else " with 1 slot"
        yield from wrapped(f"=> {found.pool}{slots}: {found.reason}", width, "  ")


_HEADINGS = ("pool", "slots", "tasks/s", "over solo", "cooperative", "hold", "memory/slot")


def _table(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    for first, *others in cells:
        figures = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        yield f"  {first.ljust(widths[0])}  {'  '.join(figures)}".rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.pool,
        str(row.slots),
        "-"
        if row.throughput is None
        else f"{row.throughput:.3g}"
        if row.throughput < 999.5
        else f"{row.throughput:.0f}",
        "-" if row.speedup is None else f"{row.speedup:.2f}",
        "-" if row.cooperative is None else f"{row.cooperative:.0%}",
        "-" if row.hold is None else format_seconds(row.hold),
        "-" if row.memory is None else format_bytes(row.memory),
    )
