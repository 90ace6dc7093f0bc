"""Exceptions that say that an object, or a function, is used where the pool does not let it be used.

The library that raised it says what is forbidden; what is added here is why the task does so under this pool, and which
task was in its way.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
import types
from collections.abc import Sequence
from typing import NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.flow import Step
from pytest_celerypool.agent.detectors.code.places import UNKNOWN, Scope, resolve
from pytest_celerypool.agent.detectors.code.standing import Reader, frames_of, split
from pytest_celerypool.agent.detectors.holders import walk
from pytest_celerypool.agent.detectors.sharing.slot_names import slot_name_in
from pytest_celerypool.agent.detectors.sharing.streams import SHARED_STREAM
from pytest_celerypool.agent.detectors.state.sources import name_of
from pytest_celerypool.agent.frames import Entry, Frames, chain, message_of
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.syntax import tree_of
from pytest_celerypool.agent.watch import Watch


class Sign(NamedTuple):
    """What an exception says, and what that means.

    :ivar exceptions: names of classes, of which the exception has one among its bases.
    :ivar text: what its text must have.
    :ivar overlapping: whether it is raised only while another task uses the object.
    """

    kind: str
    exceptions: tuple[str, ...]
    text: str
    overlapping: bool
    means: str
    remedy: str


_ONE_EACH = "make one for each task, or for each thread and greenlet (threading.local), or take it from a pool"
_CHILD_ONLY = (
    "take what tells workers apart from outside (a setting, an environment variable, the worker's hostname), or from a "
    "pool of resources in Redis; that is there under every pool"
)

#: In the order in which they are tried.
SIGNS = (
    Sign(
        "bound-object",
        ("ProgrammingError",),
        r"SQLite objects created in a thread can only be used in that same thread",
        False,
        "the connection belongs to the thread that opened it, and {pool} runs tasks in other threads",
        "open the connection in the task, or one for each thread (threading.local)",
    ),
    Sign(
        "bound-object",
        ("DatabaseError",),
        r"DatabaseWrapper objects created in a thread can only be used in that same thread",
        False,
        "Django keeps a connection for each thread, and a greenlet is one; under {pool} tasks run in other ones than "
        "that which took it",
        "take it in the task: connections[alias], or connection, give the thread its own each time",
    ),
    Sign(
        "bound-object",
        ("ValueError",),
        r"(generator|coroutine) already executing",
        True,
        "the generator is one for the process, and another task is inside it: {pool} runs tasks of a process at once",
        "give each task a generator of its own; take numbers from itertools.count() or from Redis",
    ),
    Sign(
        "bound-object",
        ("error", "GreenletError"),
        r"[Cc]annot switch to a different thread",
        False,
        "what it waits on belongs to the hub of another thread; under {pool} each thread has a hub of its own",
        "use it only in the thread that made it, and hand results over by gevent's threadpool or a queue",
    ),
    Sign(
        "bound-object",
        ("LoopExit", "BlockingSwitchOutError", "RuntimeError"),
        r"This operation would block forever|Cannot switch to .*different thread|Impossible to call blocking function",
        False,
        "it waits on an object of another hub, that no greenlet of this thread will ever wake",
        "make locks, events and queues in the process and thread that use them",
    ),
    Sign(
        "bound-object",
        ("RuntimeError", "ConcurrentObjectUseError", "AssertionError"),
        r"Second simultaneous (read|write)|This socket is already used by another greenlet|already used by another "
        r"greenlet",
        True,
        "two tasks use one socket at once: {pool} runs the tasks of a process at once, and they share the connection",
        _ONE_EACH,
    ),
    Sign(
        "bound-object",
        ("RuntimeError",),
        r"cannot enter context: .* is already entered",
        True,
        "another task has entered the context, of which there is one: {pool} runs the tasks of a process at once",
        "enter a copy: context.copy().run(function, ...)",
    ),
    Sign(
        "bound-object",
        ("ValueError",),
        r"Another profiling tool is already active",
        True,
        "another task has the profiler, of which Python has one: {pool} runs the tasks of a process at once",
        "profile a worker that runs one task at a time (solo), or all of its tasks by one profiler",
    ),
    Sign(
        "bound-object",
        ("RuntimeError",),
        r"reentrant call inside <_io\.",
        True,
        "two tasks use one buffered file at once: its lock keeps threads apart, and under {pool} all are in one",
        "open one for each task, or hold a threading.Lock (which the pool makes cooperative) around it",
    ),
    Sign(
        "bound-object",
        ("CannotSendRequest", "ResponseNotReady", "CannotSendHeader"),
        "",
        True,
        "one connection of http.client is used by two tasks at once: {pool} runs the tasks of a process at once",
        _ONE_EACH,
    ),
    Sign(
        "bound-object",
        ("InvalidRequestError", "IllegalStateChangeError", "InterfaceError", "ProgrammingError", "OperationalError"),
        r"concurrent (operation|operations)|another operation is in progress|already in progress|"
        r"execute cannot be used while an asynchronous query is underway|"
        r"This session is provisioning a new connection|can't be called here|Packet sequence number wrong|"
        r"Commands out of sync",
        True,
        "one connection or session is used by two tasks at once: {pool} runs the tasks of a process at once",
        _ONE_EACH,
    ),
    Sign(
        SHARED_STREAM.name,
        ("RuntimeError", "ConcurrencyError"),
        r"while another coroutine is already (waiting|running)|Concurrent call to receive\(\)",
        True,
        "two tasks await an answer on one connection of asyncio: {pool} runs the tasks of a process at once, and each "
        "may be given what the other has asked for",
        "hold an asyncio.Lock of its loop from the question to the answer, or open a connection for each task",
    ),
    Sign(
        "changed-meanwhile",
        ("RuntimeError",),
        r"(dictionary|Set|OrderedDict|deque|dict) (changed size|keys changed|mutated) during iteration",
        True,
        "another task changed the container while this one went through it: {pool} runs tasks of a process at once",
        "go through a copy (list(container)), or hold a lock on both sides",
    ),
    Sign(
        "connections-exhausted",
        ("ConnectionError", "TimeoutError", "PoolError", "PoolTimeout", "EmptyPoolError", "LimitExceeded", "Error"),
        r"^Too many connections|QueuePool limit of size|[Cc]onnection pool exhausted|pool exhausted|"
        r"couldn't get a connection after|checking out a connection from|No connection available|"
        r"Pool reached maximum size|Pool is empty and a new connection can't be opened",
        True,
        "the pool of connections has fewer than {pool} runs tasks at once in one process; under prefork each child has "
        "a pool of its own",
        "give the pool as many connections as the worker has slots (--concurrency), or one that lets tasks wait "
        "(redis.BlockingConnectionPool, pool_timeout)",
    ),
    Sign(
        "connections-exhausted",
        ("ConnectionLimitExceeded", "ChannelLimitExceeded"),
        "",
        True,
        "that is how many connections to the broker the application may have (broker_pool_limit), and {pool} runs more "
        "tasks at once in one process; under prefork each child has a pool of its own",
        "raise broker_pool_limit to the number of slots, or wait longer for one: app.pool.acquire(block=True)",
    ),
    Sign(
        "pool-bound",
        ("AttributeError",),
        r"'_MainProcess' object has no attribute 'index'",
        False,
        "only the children of prefork have an index; under {pool} tasks run in the main process",
        _CHILD_ONLY,
    ),
    Sign(
        "pool-bound",
        ("AttributeError",),
        r"'greenlet\.greenlet' object has no attribute",
        False,
        "it asks a greenlet of gevent's or eventlet's for that, and under {pool} the task runs in none",
        "take what the task needs as an argument, or ask whether the greenlet has it (hasattr)",
    ),
    Sign(
        "pool-bound",
        ("AssertionError",),
        r"only possible from the MAIN greenlet",
        False,
        "it waits for all that gevent has to do, the worker itself among it, and under {pool} the task runs in the "
        "midst of that",
        "wait for what the task has started: gevent.wait(objects), gevent.joinall(greenlets)",
    ),
    Sign(
        "pool-bound",
        ("AssertionError",),
        r"daemonic processes are not allowed to have children",
        False,
        "the children of {pool} are daemonic, and multiprocessing lets none of those start processes",
        "use threads in the task, billiard in place of multiprocessing, or a pool that does not fork",
    ),
)


#: What the use of a module that is half executed fails with.
_HALF = (AttributeError, ImportError, KeyError, NameError)


class ExplainedSharing(Detector):
    """Looks at the exceptions of tasks that failed; one that succeeds costs nothing."""

    kinds = (
        SHARED_STREAM,
        Kind("bound-object", "fail", "an object is used by a thread, greenlet or task that it does not belong to"),
        Kind("changed-meanwhile", "fail", "what a task checked, or goes through, was changed by another"),
        Kind("pool-bound", "fail", "code that works under one pool only"),
        Kind("connections-exhausted", "fail", "tasks that run at once want more connections than their pool has"),
        Kind("half-imported", "fail", "a task got a module that another task is still importing"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._reader = Reader(watch.frames)
        #: What the thread that imported the application has set in objects of ``threading.local``, by their names.
        self._set_at_import: dict[str, set[str]] = {}

    def begin(self) -> None:
        """Note what is set for the thread that has imported the application alone."""
        if not self.watch.pool.forks and self.watch.pool.name != "solo":
            self._set_at_import = _locals_of(self.watch.frames)

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Explain what a task failed with."""
        if exc is None:
            return
        overlapped = self.watch.overlapped(run)
        for each in chain(exc):
            if each.__traceback__ is not None:
                self._explain(run, each, overlapped=overlapped)

    def _explain(self, run: Run, exc: BaseException, *, overlapped: bool) -> None:
        places = self.watch.frames.raised_at(exc)
        if not places:
            return
        names = {cls.__name__ for cls in type(exc).__mro__}
        text = message_of(exc)
        if isinstance(exc, AttributeError) and self._unset(run, text, places):
            return
        if isinstance(exc, RuntimeError) and self._taken_elsewhere(run, text, places):
            return
        if isinstance(exc, threading.BrokenBarrierError) and self._never_filled(run, places):
            return
        if overlapped and isinstance(exc, _HALF) and self._half_imported(run, exc, places):
            return
        if overlapped and "Empty" in names and self._all_lent(run, places):
            return
        for sign in SIGNS:
            if names.isdisjoint(sign.exceptions) or not re.search(sign.text, text):
                continue
            if sign.overlapping and not overlapped:
                return
            others = [each for each in self.watch.running() if each is not run]
            self._tell(sign.kind, run, text, sign.means, sign.remedy, places, others if sign.overlapping else [])
            return
        if isinstance(exc, KeyError | IndexError | ValueError | AttributeError):
            if self._read_slot_name(run, exc, places):
                return
            if overlapped:
                self._outdated(run, exc, places)

    def _unset(self, run: Run, text: str, places: list[Entry]) -> bool:
        """Tell of an attribute of a ``threading.local`` that is there in the thread of the import; returns whether."""
        match = _NOT_IN_LOCAL.search(text)
        if match is None:
            return False
        for name, there in self._set_at_import.items():
            if match[1] in there:
                means = (
                    f"{name}.{match[1]} was set when the module was imported, and is there for that thread alone; "
                    "under {pool} every task runs in another thread or greenlet"
                )
                remedy = f"set it where it is first missed (hasattr), or in a subclass of threading.local: {_IN_INIT}"
                self._tell("bound-object", run, text, means, remedy, places, [])
                return True
        return False

    def _taken_elsewhere(self, run: Run, text: str, places: list[Entry]) -> bool:
        """Tell of an ``RLock`` that the thread or greenlet of another task has taken; returns whether."""
        frame, line, _ = places[0]
        name = released(frame, line) if text.startswith("cannot release un-acquired lock") else None
        if name is None:
            return False
        means = (
            f"{name} is taken, and not by this task: an RLock belongs to the thread that took it, and {{pool}} runs "
            "each task in another thread or greenlet"
        )
        remedy = "take and release it in one task, or use a lock that anybody may release: threading.Lock, one in Redis"
        self._tell("bound-object", run, text, means, remedy, places, [])
        return True

    def _never_filled(self, run: Run, places: list[Entry]) -> bool:
        """Tell of a barrier of the project's at which tasks wait for one another; returns whether."""
        barriers = walk(self.watch.frames, lambda value: issubclass(type(value), threading.Barrier))
        reached = next((each for each in barriers if each.value.broken and each.value.parties > 1), None)
        if reached is None:
            return False
        parties = reached.value.parties
        means = (
            f"{parties} tasks have to come to it in one process at once, and {{pool}} does not run as many there; "
            "each of them waits for the others until it gives up"
        )
        remedy = "let a chord wait for the tasks: chord(group)(callback); or do what the barrier is for in one task"
        self._tell("pool-bound", run, f"nobody else has come to {reached.path}", means, remedy, places, [])
        return True

    def _half_imported(self, run: Run, exc: BaseException, places: list[Entry]) -> bool:
        """Tell of a module that another task is importing at this moment; returns whether."""
        if self._half_executed(run, exc, places):
            return True
        text = message_of(exc)
        match = _PARTIAL.search(text)
        module = None if match is None else sys.modules.get(match[1])
        # One that imports itself in a circle is gone again by now.
        if module is None or not getattr(getattr(module, "__spec__", None), "_initializing", False):
            return False
        means = (
            "another task imports it at this moment and waits in the middle of that; under {pool} Python's lock of the "
            "import belongs to the thread, and all tasks are in one"
        )
        others = [each for each in self.watch.running() if each is not run]
        remedy = "import it where the module of the tasks is imported, or wait for nothing while a module is imported"
        self._tell("half-imported", run, text, means, remedy, places, others)
        return True

    def _half_executed(self, run: Run, exc: BaseException, places: list[Entry]) -> bool:
        """Tell of a module whose code another task is running, though it does not import it; returns whether.

        The recipe of the documentation puts it into ``sys.modules`` first, and takes no lock:
        https://docs.python.org/3/library/importlib.html#importing-a-source-file-directly.
        """
        if _PARTIAL.search(message_of(exc)):
            return False
        module = getattr(exc, "obj", None)
        modules = [module] if isinstance(module, types.ModuleType) else self._modules_in(places[0])
        running, frames = [each for each in self.watch.running() if each is not run], self.watch.frames
        at = {
            other.id: (other, frame)
            for other, frame in frames_of(self.watch.recorder.running, running)
            if any(_is_code_of(frame, each) for each in modules)
        }
        if not at:
            return False
        loads = next(frames.stack(frames.user_frame(frame)) for _, frame in at.values())
        means = (
            "another task runs the code of that module at this moment and has put it into sys.modules before; it takes "
            "no lock, and {pool} runs tasks at once in one process"
        )
        remedy = "load it where the module of the tasks is imported, or hold a lock while it is loaded"
        others = [other for other, _ in at.values()]
        more = [f"{others[0].task.name} ({others[0].id}) is here: {loads[0]}"]
        more += [f"  called from {line}" for line in loads[1:] if not line.startswith("<frozen ")]
        self._tell("half-imported", run, str(exc), means, remedy, places, others, more)
        return True

    def _modules_in(self, place: Entry) -> list[types.ModuleType]:
        """Return the modules that a line of the user's names."""
        frame, line, _ = place
        tree = tree_of(frame.f_code.co_filename)
        nodes = [] if tree is None else [node for node in ast.walk(tree) if getattr(node, "lineno", 0) == line]
        values = [frame.f_globals.get(node.id) for node in nodes if isinstance(node, ast.Name)]
        return [value for value in values if isinstance(value, types.ModuleType)]

    def _read_slot_name(self, run: Run, exc: BaseException, places: list[Entry]) -> bool:
        """Tell of a line that fails on what the pool names its slots by; returns whether it is one."""
        frame, line, _ = places[0]
        name = slot_name_in(tree_of(frame.f_code.co_filename), line)
        if name is None:
            return False
        means = (
            f"that line reads {name}, and every pool names its threads and processes in its own way, "
            "{pool} not in the way that the line expects"
        )
        self._tell("pool-bound", run, f"{type(exc).__name__}: {exc}", means, _CHILD_ONLY, places, [])
        return True

    def _all_lent(self, run: Run, places: list[Entry]) -> bool:
        """Tell of a queue out of which tasks take what they put back at their end; returns whether."""
        others = [each for each in self.watch.running() if each is not run]
        frame, line, _ = places[0]
        name = lent_from(tree_of(frame.f_code.co_filename), line)
        if name is None or not others:
            return False
        means = (
            "tasks take out of it and put back when they are done, and it has fewer than {pool} runs tasks at once in "
            "one process; under prefork each child has one of its own"
        )
        remedy = "fill it with as many as the worker has slots (--concurrency), or wait longer for one"
        self._tell("connections-exhausted", run, f"nothing is left in {name}", means, remedy, places, others)
        return True

    def _lines(self, places: list[Entry]) -> list[str]:
        return [
            self.watch.frames.place_of(frame.f_code.co_filename, line, frame.f_code.co_name)
            for frame, line, _ in places
        ]

    def _tell(
        self,
        kind: str,
        run: Run,
        text: str,
        means: str,
        remedy: str,
        places: list[Entry],
        others: list[Run],
        more: Sequence[str] = (),
    ) -> None:
        self.watch.report(
            kind,
            run,
            f"{text.rstrip('.')}: {means.format(pool=self.watch.pool.name)}",
            [
                *self._lines(places),
                *more,
                *(f"runs at the same time: {other.task.name} ({other.id})" for other in others[:4]),
            ],
            remedy,
            others=others[:4],
        )

    def _outdated(self, run: Run, exc: BaseException, places: list[Entry]) -> None:
        """Tell of a check that was true when it was made, and is not any more.

        Celery has cleared the frames: local names are not known, so keys are compared as the code writes them.
        """
        frame, _, lasti = places[0]
        flow = self._reader.flow_in(frame)
        where = split(flow, frame.f_code, lasti) if flow is not None else None
        if flow is None or where is None:
            return
        at = flow.steps[where[0]]
        scope = Scope({}, frame.f_globals)
        container, key = _failed(at.node)
        held = resolve(container, scope)
        for test in (read for label in at.path for read in flow.tests.get(label, ())):
            if test not in flow.steps[: where[0]] or test.place is None:
                continue
            if isinstance(exc, AttributeError):
                checked = held is None and "'NoneType'" in str(exc) and _same(test.node, container)
            elif test.how == "in":
                checked = test.place.owner is held and _same(getattr(test.node, "left", None), key)
            else:
                there = key is None or (isinstance(exc, IndexError) and ast.unparse(key) in _ENDS)
                checked = test.place.value() is held and held is not UNKNOWN and there
            if checked:
                self._changed(run, exc, ast.unparse(at.node), test, places)
                return

    def _changed(
        self,
        run: Run,
        exc: BaseException,
        what: str,
        test: Step,
        places: list[Entry],
    ) -> None:
        others = [each for each in self.watch.running() if each is not run]
        self.watch.report(
            "changed-meanwhile",
            run,
            f"what {what} needs was there when it was checked and gone when it was used ({type(exc).__name__}: {exc}): "
            f"under {self.watch.pool.name} another task of the process took it in between",
            [
                *self._lines(places[:1]),
                f"checked at {self._reader.place(test)}",
                *self._lines(places[1:]),
                *(f"runs at the same time: {other.task.name} ({other.id})" for other in others[:4]),
            ],
            "hold a lock from the check to the use, or use it and catch the exception (dict.pop(key, None))",
            others=others[:4],
        )


def _is_code_of(frame: types.FrameType | None, module: types.ModuleType) -> bool:
    """Whether the code of a module runs somewhere below."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is vars(module):
            return True
        frame = frame.f_back
    return False


def released(frame: types.FrameType, line: int) -> str | None:
    """Return the name of the ``RLock`` that a line releases, if it is taken."""
    tree = tree_of(frame.f_code.co_filename)
    for node in ast.walk(tree) if tree is not None else ():
        match node:
            case ast.Call(func=ast.Attribute(value=lock, attr="release")) if node.lineno == line:
                held = resolve(lock, Scope({}, frame.f_globals))
                # Of CPython's own and threading's the text tells it, of gevent's the count.
                is_reentrant = type(held).__name__ in ("RLock", "_RLock")
                if is_reentrant and (repr(held).startswith("<locked") or getattr(held, "_count", False)):
                    return ast.unparse(lock)
    return None


def lent_from(tree: ast.AST | None, line: int) -> str | None:
    """Return the name of the queue that a line takes an item out of, if the file puts that back in a ``finally``."""
    nodes = list(ast.walk(tree)) if tree is not None else []
    returned = {
        name_of(call.func.value)
        for node in nodes
        if isinstance(node, ast.Try)
        for statement in node.finalbody
        for call in ast.walk(statement)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _PUTS
    }
    taken = [
        node.func.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _GETS
        if node.lineno <= line <= (node.end_lineno or 0)
    ]
    return next((ast.unparse(each) for each in taken if name_of(each) in returned), None)


_GETS, _PUTS = ("get", "get_nowait"), ("put", "put_nowait")

_NOT_IN_LOCAL = re.compile(r"local' object has no attribute '(\w+)'")
_PARTIAL = re.compile(r"partially initialized module '([\w.]+)'")
_IN_INIT = "each thread that uses an object of it runs its __init__"


def _locals_of(frames: Frames) -> dict[str, set[str]]:
    """Return what the current thread has set in the objects of ``threading.local`` that the user's modules name."""
    found = {}
    for module in list(sys.modules.values()):
        filename = getattr(module, "__file__", None)
        if isinstance(filename, str) and frames.is_user(filename):
            for name, value in list(vars(module).items()):
                # Its type, and not isinstance(), which asks a proxy what it stands for.
                if issubclass(type(value), threading.local) and vars(value):
                    found[f"{module.__name__}.{name}"] = set(vars(value))
    return found


#: The places of a sequence that is not empty.
_ENDS = ("0", "-1")


def _failed(node: ast.AST) -> tuple[ast.expr | None, ast.expr | None]:
    """Return the container and the key of what failed."""
    if isinstance(node, ast.Subscript):
        return node.value, node.slice
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.value, node.args[0] if node.args else None
    return (node.value, None) if isinstance(node, ast.Attribute) else (None, None)


def _same(one: ast.AST | None, other: ast.AST | None) -> bool:
    return one is not None and other is not None and ast.unparse(one) == ast.unparse(other)
