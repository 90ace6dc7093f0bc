"""Standard streams that a task replaces by an assignment: no function is called, so starts and ends are compared.

``contextlib.redirect_stdout`` and its like are functions, and are watched as such.
"""

from __future__ import annotations

import ast
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors.state import sources as state_sources
from pytest_celerypool.agent.detectors.state.changes import Change
from pytest_celerypool.agent.detectors.state.ledger import Ledger
from pytest_celerypool.agent.detectors.state.of_modules import stream

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_NAMES = ("stdout", "stderr")
_MOST_ENDED = 16


class Streams:
    """Compares ``sys.stdout`` and ``sys.stderr`` at the start and the end of each task with what the worker has.

    Only for a process of the worker's own: pytest swaps them in its own between the phases of a test.
    """

    def __init__(self, watch: Watch, ledger: Ledger) -> None:
        self._watch = watch
        self._ledger = ledger
        self._running = watch.recorder.running
        self._usual: tuple[Any, Any] | None = None
        #: The last tasks that have ended, and how many had begun by then: a task keeps no other one alive.
        self._ended: deque[tuple[int, Run]] = deque(maxlen=_MOST_ENDED)

    def forked(self) -> None:
        """Begin anew in a new process, with streams of its own."""
        self._usual = None

    def started(self, run: Run) -> None:
        """A task begins: another one may have replaced a stream for a while."""
        usual = self._usual
        if usual is None:
            usual = self._usual = sys.stdout, sys.stderr
        if sys.stdout is not usual[0] or sys.stderr is not usual[1]:
            self._compare(run, usual, self._began)

    def ended(self, run: Run) -> None:
        """A task ends."""
        self._ended.append((self._watch.starts, run))
        usual = self._usual
        if usual is not None and (sys.stdout is not usual[0] or sys.stderr is not usual[1]):
            self._compare(run, usual, self._left)

    def _compare(self, run: Run, usual: tuple[Any, Any], judge: Callable[[Run, str, Any, Any], None]) -> None:
        for name, before in zip(_NAMES, usual, strict=True):
            now = getattr(sys, name)
            if now is not before and ("stream", name) not in self._ledger.active:
                judge(run, name, before, now)

    def _began(self, run: Run, name: str, before: Any, now: Any) -> None:
        """A stream is replaced as a task begins: it hurts one that does not replace it itself."""
        if self._line(run, name) is not None:
            return
        for other in self._beside(run):
            change = self._change(other, name, before, now)
            if change is not None:
                self._ledger.report_changed(change, [run], "in place when that task began")
                return

    def _left(self, run: Run, name: str, before: Any, now: Any) -> None:
        """A stream is replaced as a task ends; it may be that of one that still runs."""
        change = self._change(run, name, before, now)
        if change is None or any(self._line(other, name) for other in list(self._running.values()) if other is not run):
            return
        beside = [other for other in self._beside(run) if self._line(other, name) is not None]
        if beside:
            # Each put back what it had found: the last one the stream of another, which has ended.
            self._ledger.report_changed(change, beside, "the stream of another task is left in place")
        else:
            self._ledger.report_left(change)
        self._usual = sys.stdout, sys.stderr

    def _beside(self, run: Run) -> list[Run]:
        """Return the tasks that run, or have ended since a task began."""
        ended = [other for starts, other in self._ended if starts >= abs(run.number)]
        return [other for other in (*list(self._running.values()), *ended) if other is not run]

    def _line(self, run: Run, name: str) -> state_sources.Line | None:
        def matches(node: ast.AST) -> bool:
            return any(
                isinstance(target, ast.Attribute)
                and target.attr == name
                and state_sources.name_of(target.value) == "sys"
                for target in state_sources.targets(node)
            )

        return state_sources.find(run.task, (), matches)

    def _change(self, run: Run, name: str, before: Any, now: Any) -> Change | None:
        line = self._line(run, name)
        if line is None:
            return None
        return Change(stream(name), run, before, now, time.monotonic(), [self._watch.frames.place_of(*line)])
