"""What a task replaces by an assignment, such as standard streams: starts and ends are compared.

No function is called that could be watched.
``contextlib.redirect_stdout`` and its like are functions, and are watched as such.
"""

from __future__ import annotations

import ast
import time
from collections import deque
from collections.abc import Callable
from operator import is_not
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors.code.calls import names_of
from pytest_celerypool.agent.detectors.code.places import Scope, resolve, same
from pytest_celerypool.agent.detectors.code.standing import function_of
from pytest_celerypool.agent.detectors.holders import user_modules
from pytest_celerypool.agent.detectors.state import sources as state_sources
from pytest_celerypool.agent.detectors.state.changes import Change, Subject
from pytest_celerypool.agent.detectors.state.ledger import Ledger
from pytest_celerypool.agent.detectors.state.of_modules import assigned
from pytest_celerypool.agent.syntax import tree_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_MOST_ENDED = 16


class Assigned:
    """Compares ``sys.stdout`` and its like at the start and the end of each task with what the worker has.

    Only for a process of the worker's own: pytest swaps streams in its own between the phases of a test.
    """

    def __init__(self, watch: Watch, ledger: Ledger) -> None:
        self._watch = watch
        self._ledger = ledger
        self._running = watch.recorder.running
        self._known: list[tuple[Any, str, Subject]] = []
        self._owners: list[Any] = []
        self._names: list[str] = []
        self._usual: list[Any] = []
        #: The last tasks that have ended, and how many had begun by then: a task keeps no other one alive.
        self._ended: deque[tuple[int, Run]] = deque(maxlen=_MOST_ENDED)

    def forked(self) -> None:
        """Begin anew in a new process, with streams of its own."""
        self._known = []

    def started(self, run: Run) -> None:
        """A task begins: another one may have replaced something for a while."""
        if not self._known:
            self._known = assigned(self._watch.frames)
            self._owners = [owner for owner, _, _ in self._known]
            self._names = [name for _, name, _ in self._known]
            self._usual = self._now()
        now = self._replaced()
        if now is not None:
            self._compare(run, now, self._began)

    def ended(self, run: Run) -> None:
        """A task ends."""
        self._ended.append((self._watch.starts, run))
        now = self._replaced() if self._known else None
        if now is not None:
            self._compare(run, now, self._left)

    def _now(self) -> list[Any]:
        return list(map(getattr, self._owners, self._names))

    def _replaced(self) -> list[Any] | None:
        """Return what there is now if something is not what the worker has, as the start and end of each task ask."""
        now = list(map(getattr, self._owners, self._names))
        # By identity: what a task has put there may compare as it likes.
        return now if any(map(is_not, now, self._usual)) else None

    def _compare(self, run: Run, values: list[Any], judge: Callable[[Run, int, Any, Any], None]) -> None:
        for number, (before, now) in enumerate(zip(self._usual, values, strict=True)):
            if now is not before and self._known[number][2].key not in self._ledger.active:
                judge(run, number, before, now)

    def _began(self, run: Run, number: int, before: Any, now: Any) -> None:
        """Something is replaced as a task begins: it hurts one that does not replace it itself."""
        if self._known[number][2].grade != "strict" or self._replaces(run, number):
            return
        for other in self._beside(run):
            if not self._replaces(other, number):
                continue
            change = self._change(other, number, before, now)
            if change is not None:
                self._ledger.report_changed(change, [run], "in place when that task began")
                return

    def _left(self, run: Run, number: int, before: Any, now: Any) -> None:
        """Something is replaced as a task ends; it may be that of one that still runs."""
        change = self._change(run, number, before, now)
        if change is None or any(
            self._line(other, number) for other in list(self._running.values()) if other is not run
        ):
            return
        beside = [other for other in self._beside(run) if self._line(other, number) is not None]
        if beside and not self._is_for_all(run, number, now):
            # Each put back what it had found: the last one that of another, which has ended.
            self._ledger.report_changed(change, beside, "that of another task is left in place")
        else:
            self._ledger.report_left(change)
        self._usual = self._now()

    def _beside(self, run: Run) -> list[Run]:
        """Return the tasks that run, or have ended since a task began."""
        ended = [other for starts, other in self._ended if starts >= abs(run.number)]
        return [other for other in (*list(self._running.values()), *ended) if other is not run]

    def _is_for_all(self, run: Run, number: int, value: Any) -> bool:
        """Whether the line that has put a value there puts the same there in every task: a constant, or a global."""
        line = self._line(run, number)
        tree = None if line is None else tree_of(line.filename)
        module = next((each for each in user_modules(self._watch.frames) if each.__file__ == line.filename), None)  # type: ignore[union-attr]
        for node in () if tree is None or module is None else ast.walk(tree):
            if isinstance(node, ast.Assign) and node.lineno == line.number:  # type: ignore[union-attr]
                return same(resolve(node.value, Scope({}, vars(module))), value)
        return False

    def _line(self, run: Run, number: int) -> state_sources.Line | None:
        owner, name, _ = self._known[number]
        files = [str(module.__file__) for module in user_modules(self._watch.frames)]
        return state_sources.find(run.task, files, state_sources.replaces(owner.__name__, name))

    def _replaces(self, run: Run, number: int) -> bool:
        """Whether a task, or what it calls, has the line; another task of its file may have it."""
        line = self._line(run, number)
        function = function_of(run.task, self._watch.frames)
        if line is None or function is None:
            return False
        return line.function == function.__code__.co_name or line.function in names_of(function)

    def _change(self, run: Run, number: int, before: Any, now: Any) -> Change | None:
        line = self._line(run, number)
        if line is None:
            return None
        place = self._watch.frames.place_of(*line)
        return Change(self._known[number][2], run, before, now, time.monotonic(), [place])
