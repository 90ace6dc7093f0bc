"""Gather what the reports of a session say of pools, and say it at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pytest_celerypool.report import matrix
from pytest_celerypool.verdict import agreement

#: The attribute of a test report that carries this plugin's plain data, through xdist too.
ATTRIBUTE = "celerypool"


class Summary:
    """Everything of a session's reports that the end of the session is about.

    :param columns: the names of the pools of the run, in their order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._cells: dict[tuple[str, str, str], matrix.Cell] = {}
        self._agree: dict[tuple[str, int], dict[str, tuple[str, Any, Any]]] = {}
        self.notes: list[str] = []
        self.unmultiplied: set[str] = set()

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
        if "column" not in data:
            if data.get("dynamic"):
                self.unmultiplied.add(report.nodeid)
            return
        self._add_cell(report, data)
        for entry in data.get("agree", ()):
            sides = self._agree.setdefault((data["test"], entry["number"]), {})
            sides[data["column"]] = (report.nodeid, entry["facts"], report.location)

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
        if before is None or report.when != "teardown" or before.outcome == "passed":
            self._cells[key] = cell
        if data["column"] not in self._columns:
            self._columns.append(data["column"])

    def disagreements(self) -> Iterator[tuple[str, Any, str]]:
        """Yield node id, location and text for every test and pool that took part in a disagreement."""
        for (test, _), sides in self._agree.items():
            if len(sides) < 2:
                self.notes.append(f"{test}: not compared, it ran under {', '.join(sides)} alone")
                continue
            text = agreement.compare({column: facts for column, (_, facts, _) in sides.items()})
            if text is not None:
                for nodeid, _, location in sides.values():
                    yield nodeid, location, text

    @property
    def used(self) -> bool:
        """Whether any test used a worker."""
        return bool(self._cells) or bool(self.unmultiplied)

    def lines(self, *, width: int, verbosity: int, color: bool, chosen: Sequence[str] | None) -> list[str]:
        """Return the lines at the end of the session.

        :param width: of the terminal, in columns.
        :param verbosity: pytest's.
        :param chosen: the pools that option or ini chose, ``None`` if neither did.
        """
        lines: list[str] = []
        if self._cells:
            ran = {cell.column for cell in self._cells.values()}
            columns = [name for name in self._columns if name in ran]
            cells = matrix.merge(self._cells.values())
            lines += matrix.render(cells, columns, width=width, verbosity=verbosity, color=color)
            lines += [
                f"{name}: no test ran under it; every test that uses a worker excludes it"
                for name in chosen or ()
                if not any(column == name or column.startswith(f"{name}-") for column in ran)
            ]
        elif chosen is not None and not self.unmultiplied:
            lines.append(
                f"pools were chosen ({', '.join(chosen)}), and no test used a worker: a test has one if it asks for "
                "celery_pool_worker, or carries celery_pools, celery_expect or celery_budget"
            )
        if self.unmultiplied:
            lines.append(
                f"{len(self.unmultiplied)} ran once, on a worker of their own: they reach a worker dynamically, "
                "or from a unittest.TestCase"
            )
        return lines + self.notes


def _outcome(report: Any) -> str | None:
    xfail = hasattr(report, "wasxfail")
    if report.failed:
        return "failed" if report.when == "call" else "error"
    if report.skipped:
        return "xfailed" if xfail else "skipped"
    if report.passed:
        return "xpassed" if xfail and report.when == "call" else "passed"
    return None
