"""Gather what the reports of a session say of pools, and say it at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pytest_celerypool.keys import ATTRIBUTE
from pytest_celerypool.report import matrix
from pytest_celerypool.report.advice import Counsel
from pytest_celerypool.report.findings import Catalogue
from pytest_celerypool.report.sweep import Sweeps
from pytest_celerypool.report.wrapping import wrapped
from pytest_celerypool.trace import Policy
from pytest_celerypool.variants import CLUSTER_COLUMN
from pytest_celerypool.verdict import agreement, relative
from pytest_celerypool.verdict.disagreement import Outcome, compare
from pytest_celerypool.verdict.evidence import Evidence
from pytest_celerypool.verdict.findings import as_data


class _Side(NamedTuple):
    """What one pool's run of a test contributes to a comparison."""

    nodeid: str
    location: Any
    pool: str
    facts: agreement.Facts


class Witness(NamedTuple):
    """What one task took in one test under one pool.

    :ivar test: the node id without the axis.
    :ivar nodeid: the node id.
    :ivar location: of the test, as its report has it.
    :ivar passed: whether the test passed.
    """

    test: str
    nodeid: str
    location: Any
    passed: bool
    figures: Evidence


class Summary:
    """Everything of a session's reports that the end of the session is about.

    :param columns: the names of the pools of the run, in their order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._cells: dict[tuple[str, str, str], matrix.Cell] = {}
        self._agree: dict[tuple[str, int], dict[str, _Side]] = {}
        #: By test and number of the budget: each column's node id, location and facts.
        self._ratios: dict[tuple[str, int], dict[str, tuple[str, Any, relative.Facts]]] = {}
        self.findings = Catalogue()
        #: What tasks took, report by report; empty unless the settings want it.
        self.evidence: list[Witness] = []
        self.sweeps = Sweeps()
        self.counsel = Counsel(columns)
        #: By test and column: the node id, and how it failed if that is to be compared with other pools.
        self._ends: dict[tuple[str, str], tuple[str, str | None]] = {}
        self.notes: list[str] = []
        self.unmultiplied: set[str] = set()
        #: The file and line of each test: under xdist tests end in another order each time.
        self._lines: dict[str, tuple[str, int]] = {}
        self._distributed = False
        #: By why no worker would ever have had them, empty where one might: by test, the tasks that it left.
        self._waited: dict[str, dict[str, list[str]]] = {}
        #: Whether every test had its turn.
        self.complete = False

    def add(self, report: Any) -> None:
        """Take in one report of one phase of a test."""
        data = getattr(report, ATTRIBUTE, None)
        if data is None:
            return
        self.note(data.get("notes", ()))
        self.note(
            f"the agent failed during {report.nodeid}, so that what it recorded may be incomplete: {error}"
            for error in data.get("agent_errors", ())
        )
        self.note(f"{report.nodeid}: {text}" for text in data.get("unjudged", ()))
        self.findings.add(data.get("findings", ()), report.nodeid)
        self.findings.add_late(data.get("late", ()))
        for task, why in data.get("left", ()) if report.passed else ():
            self._waited.setdefault(why, {}).setdefault(report.nodeid, []).append(task)
        self.evidence += [
            Witness(data.get("test", report.nodeid), report.nodeid, report.location, report.passed, figures)
            for figures in data.get("evidence", ())
        ]
        if "advice" in data:
            self.counsel.add(report, data)
        if "column" not in data:
            if data.get("dynamic"):
                self.unmultiplied.add(report.nodeid)
            return
        self._add_cell(report, data)
        if "sweep" in data:
            self.sweeps.add(data["test"], data["sweep"])
        for number, found in data.get("ratios", ()):
            of_test = self._ratios.setdefault((data["test"], number), {})
            of_test[data["column"]] = (report.nodeid, report.location, found)
        for entry in data.get("agree", ()):
            sides = self._agree.setdefault((data["test"], entry["number"]), {})
            sides[data["column"]] = _Side(report.nodeid, report.location, entry["pool"], entry["facts"])

    def relatives(self) -> Iterator[tuple[str, Any, str]]:
        """Yield node id, location and text for every test and pool that broke a budget relative to another pool."""
        for (test, _), sides in self._ratios.items():
            broken, notes = relative.judge({column: found for column, (_, _, found) in sides.items()})
            self.note(f"{test}: {text}" for text in notes)
            for column, text in broken:
                self.fail(test, [column])
                nodeid, location, _ = sides[column]
                yield nodeid, location, text

    def _left(self) -> list[str]:
        """Say which tests that passed waited in vain for tasks they left: it explains a slow suite."""
        lines = []
        for why, tests in self._waited.items():
            nodeid, tasks = next(iter(tests.items()))
            others = {1: "", 2: " and 1 more test"}.get(len(tests), f" and {len(tests) - 1} more tests")
            names = ", ".join(dict.fromkeys(tasks))
            left = f"{names}, which {why}" if why else f"tasks that did not end in time ({names})"
            lines.append(f"{nodeid}{others} passed and left {left}; the worker was replaced")
        return lines

    def add_late(self, findings: Iterable[Mapping[str, Any]]) -> None:
        """Take in findings that workers showed at their end."""
        self.findings.add_late(findings)

    def compare_outcomes(self, policy: Policy) -> None:
        """Add a finding for each test that ended differently under two pools.

        :param policy: what such a finding does.
        """
        sides: dict[str, list[Outcome]] = {}
        for cell in matrix.merge(self._cells.values()):
            if cell.outcome in ("passed", "xpassed", "failed", "error"):
                nodeid, why = self._ends[cell.test, cell.column]
                passed = cell.outcome in ("passed", "xpassed")
                sides.setdefault(cell.test, []).append(Outcome(cell.column, nodeid, passed, why is not None, why or ""))
        for test, outcomes in sides.items():
            self.add_late(as_data(finding, policy) for finding in compare(test, outcomes))

    def note(self, notes: Iterable[str]) -> None:
        """Have the summary say each of `notes` once."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    def _add_cell(self, report: Any, data: dict[str, Any]) -> None:
        outcome = _outcome(report)
        node = getattr(getattr(report, "node", None), "gateway", None)
        key = (data["test"], data["column"], str(getattr(node, "id", "")))
        before = self._cells.get(key)
        if outcome is None or (report.when == "teardown" and outcome == "passed"):
            return
        if report.when == "setup" and outcome == "passed":
            self._cells.pop(key, None)  # a rerun begins
            return
        cell = matrix.Cell(data["test"], data["column"], outcome, data.get("nearest", ""), data.get("share", 0.0))
        if before is not None and report.when == "teardown":
            (cell,) = matrix.merge([before, cell])
        self._cells[key] = cell
        compared = data.get("disagrees") and not data.get("only_findings")
        self._ends[cell.test, cell.column] = (report.nodeid, data.get("why", "") if compared else None)
        self._lines.setdefault(data["test"], (report.location[0], report.location[1] or 0))
        self._distributed = self._distributed or node is not None
        if data["column"] not in self._columns:
            self._columns.append(data["column"])

    def disagreements(self) -> Iterator[tuple[str, Any, str]]:
        """Yield node id, location and text for every test and pool that took part in a disagreement."""
        for (test, _), sides in self._agree.items():
            if len({side.pool for side in sides.values()}) < 2:
                self.note([f"{test}: not compared, only {', '.join(sides)} took part"])
                continue
            text = agreement.compare({column: side.facts for column, side in sides.items()})
            if text is not None:
                self.fail(test, sides)
                for side in sides.values():
                    yield side.nodeid, side.location, text

    def fail(self, test: str, columns: Iterable[str]) -> None:
        """Show a test as failed under these pools."""
        for key, cell in self._cells.items():
            if cell.test == test and cell.column in columns:
                self._cells[key] = replace(cell, outcome="failed")

    @property
    def used(self) -> bool:
        """Whether any test used a worker."""
        return bool(self._cells) or bool(self.unmultiplied)

    def lines(
        self, *, width: int, verbosity: int, color: bool, chosen: Sequence[str] | None, narrowed: bool = False
    ) -> list[str]:
        """Return the lines at the end of the session.

        :param width: of the terminal, in columns.
        :param verbosity: pytest's.
        :param chosen: the pools that option or ini chose, ``None`` if neither did.
        :param narrowed: whether only some of the tests were to run.
        """
        table: list[str] = []
        if self._cells:
            ran = {cell.column for cell in self._cells.values()}
            columns = [name for name in self._columns if name in ran]
            cells = matrix.merge(self._ordered())
            table = matrix.render(cells, columns, width=width, verbosity=verbosity, color=color)
        notes = [
            line
            for note in (*self._unused(chosen or (), narrowed), *self._unmultiplied(), *self._left(), *self.notes)
            for line in _wrapped(note, width)
        ]
        return [*table, *([""] if table and notes and verbosity >= 0 else []), *notes]

    def _unused(self, chosen: Sequence[str], narrowed: bool) -> list[str]:
        """Say which of the chosen pools no test ran under; where not every test had its turn nobody knows."""
        if not self.complete:
            return []
        if not self.used and chosen:
            return [
                f"pools were chosen ({', '.join(chosen)}), and no test used a worker: a test has one if it asks for "
                "celery_pool_worker, or for celery_worker or celery_session_worker of celery.contrib.pytest, or "
                "carries celery_pools, celery_expect or celery_budget. Tests that call start_worker themselves are "
                "named by the ini key celery_multiply"
            ]
        ran = {cell.column for cell in self._cells.values()}
        itself = ", or names its pools itself" if CLUSTER_COLUMN in ran else ""
        itself += ", or was not selected" if narrowed else ""
        return [
            f"{name}: no test ran under it; every test that uses a worker excludes it{itself}"
            for name in chosen
            if self._cells and not any(column == name or column.startswith(f"{name}-") for column in ran)
        ]

    def _unmultiplied(self) -> list[str]:
        count = len(self.unmultiplied)
        if not count:
            return []
        tests, they, were = ("1 test", "it reaches", "was") if count == 1 else (f"{count} tests", "they reach", "were")
        return [
            f"{tests} ran once, on a worker of their own: {they} a worker dynamically or from a unittest.TestCase, or "
            f"{were} marked by a hook"
        ]

    def _ordered(self) -> list[matrix.Cell]:
        cells = list(self._cells.values())
        return sorted(cells, key=lambda cell: (self._lines[cell.test], cell.test)) if self._distributed else cells


def _wrapped(note: str, width: int) -> list[str]:
    """Return the lines of a note; one that has lines of its own keeps them."""
    return [line for text in note.splitlines() for line in wrapped(text, width)]


def _outcome(report: Any) -> str | None:
    xfail = hasattr(report, "wasxfail")
    if report.failed:
        return "failed" if report.when == "call" else "error"
    if report.skipped:
        return "xfailed" if xfail else "skipped"
    if report.passed:
        return "xpassed" if xfail and report.when == "call" else "passed"
    return None
