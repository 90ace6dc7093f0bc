"""What a task replaces by an assignment, such as standard streams: starts and ends are compared.

No function is called that could be watched.
``contextlib.redirect_stdout`` and its like are functions, and are watched as such.
"""

from __future__ import annotations

import ast
import linecache
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from operator import is_not
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors.code.calls import flow_of_task, names_of
from pytest_celerypool.agent.detectors.code.places import Scope, resolve, same
from pytest_celerypool.agent.detectors.code.standing import Reader, frames_of, function_of
from pytest_celerypool.agent.detectors.holders import user_modules
from pytest_celerypool.agent.detectors.state import sources as state_sources
from pytest_celerypool.agent.detectors.state.changes import Change, Subject
from pytest_celerypool.agent.detectors.state.ledger import Ledger
from pytest_celerypool.agent.detectors.state.of_modules import Assignment, assigned, assigned_by
from pytest_celerypool.agent.syntax import tree_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_MOST_ENDED = 16

#: The mark of a run for what it has found replaced as it began.
_FOUND = "found-replaced"


class Places(NamedTuple):
    """What is compared, one item of each for one attribute.

    :ivar known: the module or class, the attribute, and the piece of state that it is.
    :ivar usual: what the worker has there.
    """

    known: tuple[tuple[Any, str, Subject], ...]
    owners: tuple[Any, ...]
    names: tuple[str, ...]
    usual: tuple[Any, ...]

    @classmethod
    def of(cls, known: Iterable[tuple[Any, str, Subject]]) -> Places:
        """Return attributes with what is there now."""
        known = tuple(known)
        owners, names = tuple(owner for owner, _, _ in known), tuple(name for _, name, _ in known)
        return cls(known, owners, names, tuple(map(getattr, owners, names, repeat(None))))

    def now(self) -> tuple[Any, ...]:
        """Return what is there now."""
        return tuple(map(getattr, self.owners, self.names, repeat(None)))


class Assigned:
    """Compares ``sys.stdout`` and its like at the start and the end of each task with what the worker has.

    Only for a process of the worker's own: pytest swaps streams in its own between the phases of a test.
    """

    def __init__(self, watch: Watch, ledger: Ledger) -> None:
        self._watch = watch
        self._ledger = ledger
        self._running = watch.recorder.running
        self._reader = Reader(watch.frames)
        #: Replaced as a whole when a task is learned of: slots may be threads.
        self._places = Places.of(())
        #: The files in which tasks are defined.
        self._read: set[str] = set()
        #: Of each task that has been looked at, what it assigns in libraries, by the number of the place.
        self._assigns: dict[str, dict[int, Assignment]] = {}
        self._learning = originals.allocate_lock()
        #: The last tasks that have ended, and how many had begun by then: a task keeps no other one alive.
        self._ended: deque[tuple[int, Run]] = deque(maxlen=_MOST_ENDED)

    def forked(self) -> None:
        """Begin anew in a new process, with streams of its own."""
        self._places, self._read, self._assigns = Places.of(()), set(), {}
        self._learning = originals.allocate_lock()

    @property
    def compares(self) -> bool:
        """Whether there is anything that a task may replace."""
        return bool(self._places.known)

    def replaces(self, task: str) -> bool:
        """Whether a task that has begun, by its name, is known to replace something in a library."""
        return bool(self._assigns.get(task))

    def started(self, run: Run) -> bool:
        """A task begins: another one may have replaced something for a while.

        :returns: whether there is now something to compare, and was not before.
        """
        compared = self.compares
        if run.task.name not in self._assigns:
            with self._learning:
                self._learn(run.task)
        now = self._replaced() if run.number < 0 else None
        if now is not None:
            self._compare(run, now, self._began)
        return self.compares and not compared

    def ended(self, run: Run) -> None:
        """A task ends."""
        if not self.compares:
            return
        self._ended.append((self._watch.starts, run))
        now = self._replaced()
        if now is not None:
            self._compare(run, now, self._left)

    def returned(self, run: Run) -> None:
        """A task has put back what it replaced; another one, which replaced it too, may be in the midst of using it."""
        if not self.replaces(run.task.name):
            return
        running = [each for each in self._watch.running() if each is not run and not each.over]
        frames = dict(frames_of(self._running, running)) if running else {}
        places = self._places
        for number, own in self._assigns[run.task.name].items():
            if not own.certain or getattr(*places.known[number][:2], None) is not places.usual[number]:
                continue
            for other, frame in frames.items():
                theirs = self._assigns.get(other.task.name, {}).get(number)
                if theirs is None or not theirs.certain or not stands_before_the_end_of(frame, theirs.line):
                    continue
                change = self._change(run, number, places.usual[number], value_at(own.line))
                if change is not None:
                    self._ledger.report_changed(change, [other], "put back while that task relies on it")
                break

    def _learn(self, task: Any) -> None:
        """Read what a task replaces; what no file of a task mentions need not be compared, nothing is said of it."""
        places = self._places
        numbers = {(id(owner), name): number for number, (owner, name, _) in enumerate(places.known)}
        new: list[tuple[Any, str, Subject]] = []

        def number_of(owner: Any, name: str, subject: Subject) -> int:
            number = numbers.setdefault((id(owner), name), len(numbers))
            if number == len(places.known) + len(new):
                new.append((owner, name, subject))
            return number

        for owner, name, subject in self._mentioned(state_sources.task_line(task).filename):
            number_of(owner, name, subject)
        flow = flow_of_task(self._reader, task)
        assigns: dict[int, Assignment] = {}
        for each in () if flow is None else assigned_by(flow, self._watch.frames):
            number = number_of(each.owner, each.name, each.subject)
            if number not in assigns or not assigns[number].certain:
                assigns[number] = each
        more = Places.of(new)
        self._places = Places(*(mine + theirs for mine, theirs in zip(places, more, strict=True)))
        self._assigns[task.name] = assigns

    def _mentioned(self, filename: str) -> list[tuple[Any, str, Subject]]:
        """Return of what many programs replace what a file may."""
        if filename in self._read:
            return []
        self._read.add(filename)
        text = "".join(linecache.getlines(filename))
        return [each for each in assigned() if state_sources.may_replace(text, each[0].__name__, each[1])]

    def _replaced(self) -> tuple[Any, ...] | None:
        """Return what there is now if something is not what the worker has, as the start and end of each task ask."""
        places = self._places
        if not places.known:
            return None
        now = places.now()
        # By identity: what a task has put there may compare as it likes.
        return now if any(map(is_not, now, places.usual)) else None

    def _compare(self, run: Run, values: tuple[Any, ...], judge: Callable[[Run, int, Any, Any], None]) -> None:
        places = self._places
        # Another thread may have learned of a place since.
        for number, (before, now) in enumerate(zip(places.usual, values, strict=False)):
            if now is not before and self._known(number)[2].key not in self._ledger.active:
                judge(run, number, before, now)

    def _known(self, number: int) -> tuple[Any, str, Subject]:
        return self._places.known[number]

    def _began(self, run: Run, number: int, before: Any, now: Any) -> None:
        """Something is replaced as a task begins: it hurts one that does not replace it itself."""
        if self._replaces(run, number):
            run.marks.setdefault(_FOUND, {})[number] = now
            return
        owner, _, subject = self._known(number)
        if subject.grade != "strict" and not (subject.grade == "read" and self._uses(run, owner)):
            return
        for other in self._beside(run):
            if not self._replaces(other, number):
                continue
            change = self._change(other, number, before, now)
            if change is not None:
                self._ledger.report_changed(change, [run], "in place when that task began")
                return

    def _uses(self, run: Run, owner: Any) -> bool:
        """Whether a task, or what it calls, has to do with another task."""
        function, named = (
            function_of(run.task, self._watch.frames),
            getattr(getattr(owner, "run", None), "__name__", ""),
        )
        return function is not None and named in names_of(function)

    def _left(self, run: Run, number: int, before: Any, now: Any) -> None:
        """Something is replaced as a task ends; it may be that of one that still runs."""
        change = self._change(run, number, before, now)
        running = [other for other in list(self._running.values()) if other is not run and self._line(other, number)]
        if change is not None and running and run.marks.get(_FOUND, {}).get(number, before) is now:
            self._within(run, number, change, running)
        if change is None or running:
            return
        beside = [other for other in self._beside(run) if self._line(other, number) is not None]
        if beside and not self._is_for_all(run, number, now):
            # Each put back what it had found: the last one that of another, which has ended.
            self._ledger.report_changed(change, beside, "that of another task is left in place")
        else:
            self._ledger.report_left(change)
        self._places = self._places._replace(usual=self._places.now())

    def _within(self, run: Run, number: int, change: Change, running: list[Run]) -> None:
        """What others have replaced stood from the beginning of a task to its end, and the task replaced it as well."""
        own = self._assigns[run.task.name].get(number)
        if own is not None and own.certain and not self._is_for_all(run, number, change.value):
            self._ledger.report_changed(change, running, "found there as it began, and put back by it")

    def _beside(self, run: Run) -> list[Run]:
        """Return the tasks that run, or have ended since a task began."""
        ended = [other for starts, other in self._ended if starts >= abs(run.number)]
        return [other for other in (*list(self._running.values()), *ended) if other is not run]

    def _is_for_all(self, run: Run, number: int, value: Any) -> bool:
        """Whether the line that has put a value there puts the same there in every task: a constant, or a global."""
        line = self._line(run, number)
        if line is None:
            return False
        tree = tree_of(line.filename)
        module = next((each for each in user_modules(self._watch.frames) if each.__file__ == line.filename), None)
        for node in () if tree is None or module is None else ast.walk(tree):
            if isinstance(node, ast.Assign) and node.lineno == line.number:
                return same(resolve(node.value, Scope({}, vars(module))), value)
        return False

    def _line(self, run: Run, number: int) -> state_sources.Line | None:
        own = self._assigns.get(run.task.name, {}).get(number)
        if own is not None:
            return own.line
        owner, name, _ = self._known(number)
        return state_sources.find(run.task, (), state_sources.replaces(getattr(owner, "__name__", ""), name))

    def _replaces(self, run: Run, number: int) -> bool:
        """Whether a task, or what it calls, has the line; another task of its file may have it."""
        if number in self._assigns.get(run.task.name, {}):
            return True
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
        return Change(self._known(number)[2], run, before, now, time.monotonic(), [place])


def stands_before_the_end_of(frame: FrameType | None, line: state_sources.Line) -> bool:
    """Whether code is between a line that replaces something and that of its function which puts it back."""
    while frame is not None:
        code = frame.f_code
        if (code.co_filename, code.co_name) == (line.filename, line.function):
            again = [each.lineno for each in _assignments(line) if each.lineno > line.number]
            return bool(again) and line.number < frame.f_lineno < max(again)
        frame = frame.f_back
    return False


def _assignments(line: state_sources.Line) -> list[ast.Assign]:
    """Return the assignments of a function to what one line of it assigns to, that line's first."""
    tree = tree_of(line.filename)
    for function in () if tree is None else ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name != line.function:
            continue
        found = [each for each in ast.walk(function) if isinstance(each, ast.Assign)]
        first = next((each for each in found if each.lineno == line.number), None)
        if first is not None:
            name = ast.unparse(first.targets[0])
            return [first, *(each for each in found if each is not first and ast.unparse(each.targets[0]) == name)]
    return []


def value_at(line: state_sources.Line) -> str:
    """Return what a line assigns, as it is written there."""
    return next((ast.unparse(each.value) for each in _assignments(line)), "another")
