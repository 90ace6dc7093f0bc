"""What a detector is: it watches the tasks of one worker process for one family of hazards, and reports what it saw.

Each family is a file beside this one. A detector of somebody else's is a file like these; the hook
``pytest_celerypool_detectors`` names it. Detectors run inside other people's workers: they import nothing but the
standard library, Celery, greenlet, psutil and the library of the pool, at module level the standard library only, since
pytest's own process imports them to know their kinds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent.replacing import Replacement
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

__all__ = ["BUILT_IN", "Detector", "Kind"]

#: The detectors of this package, as the hook would name them.
BUILT_IN: Sequence[str] = (
    "pytest_celerypool.agent.detectors.hub.kept:HubKept",
    "pytest_celerypool.agent.detectors.hub.explained:Explained",
    "pytest_celerypool.agent.detectors.hub.unpatched:Unpatched",
    "pytest_celerypool.agent.detectors.hub.alarms:Alarms",
    "pytest_celerypool.agent.detectors.fork.connections:Connections",
    "pytest_celerypool.agent.detectors.fork.databases:Databases",
    "pytest_celerypool.agent.detectors.fork.programs:Programs",
    "pytest_celerypool.agent.detectors.fork.files:Files",
    "pytest_celerypool.agent.detectors.fork.buffers:Buffers",
    "pytest_celerypool.agent.detectors.fork.rotations:Rotations",
    "pytest_celerypool.agent.detectors.fork.bound:Bound",
    "pytest_celerypool.agent.detectors.fork.threads:MissingThreads",
    "pytest_celerypool.agent.detectors.fork.locks:HeldLocks",
    "pytest_celerypool.agent.detectors.fork.random_streams:EqualRandom",
    "pytest_celerypool.agent.detectors.leaks.threads:Threads",
    "pytest_celerypool.agent.detectors.leaks.files:Files",
    "pytest_celerypool.agent.detectors.leaks.processes:Processes",
    "pytest_celerypool.agent.detectors.leaks.memory:Memory",
    "pytest_celerypool.agent.detectors.leaks.per_greenlet:PerGreenlet",
    "pytest_celerypool.agent.detectors.leaks.by_thread:ByThread",
    "pytest_celerypool.agent.detectors.ends.shutdown:Shutdown",
    "pytest_celerypool.agent.detectors.ends.exit_functions:ExitFunctions",
    "pytest_celerypool.agent.detectors.ends.stop_receivers:StopReceivers",
    "pytest_celerypool.agent.detectors.state.process:State",
    "pytest_celerypool.agent.detectors.state.slot:SlotState",
    "pytest_celerypool.agent.detectors.state.threads:Threads",
    "pytest_celerypool.agent.detectors.state.sessions:Sessions",
    "pytest_celerypool.agent.detectors.sharing.overlaps:Sharing",
    "pytest_celerypool.agent.detectors.promises.limits:Limits",
    "pytest_celerypool.agent.detectors.promises.settings:Revocations",
    "pytest_celerypool.agent.detectors.promises.settings:Recycling",
    "pytest_celerypool.agent.detectors.promises.settings:Autoscaling",
    "pytest_celerypool.agent.detectors.promises.coroutines:Coroutines",
    "pytest_celerypool.agent.detectors.promises.init_signals:InitSignals",
    "pytest_celerypool.agent.detectors.promises.exit_handlers:ExitHandlers",
    "pytest_celerypool.agent.detectors.ends.lost:Endings",
    "pytest_celerypool.agent.detectors.ends.exceptions:Exceptions",
    "pytest_celerypool.agent.detectors.ends.threads:ThreadFailures",
    "pytest_celerypool.agent.detectors.ends.waiting:Joins",
    "pytest_celerypool.agent.detectors.ends.waiting:Heartbeats",
    "pytest_celerypool.agent.detectors.ends.waiting:Questions",
    "pytest_celerypool.agent.detectors.sharing.children:Children",
    "pytest_celerypool.agent.detectors.sharing.local_caches:LocalCaches",
    "pytest_celerypool.agent.detectors.sharing.before_fork:MadeBeforeFork",
    "pytest_celerypool.agent.detectors.sharing.names:SharedNames",
    "pytest_celerypool.agent.detectors.sharing.file_locks:FileLocks",
    "pytest_celerypool.agent.detectors.sharing.reentrant_locks:ReentrantLocks",
    "pytest_celerypool.agent.detectors.sharing.deadlocks:Deadlocks",
    "pytest_celerypool.agent.detectors.sharing.child_status:ChildStatus",
    "pytest_celerypool.agent.detectors.sharing.transactions:Transactions",
    "pytest_celerypool.agent.detectors.sharing.streams:Streams",
    "pytest_celerypool.agent.detectors.sharing.explained:ExplainedSharing",
    "pytest_celerypool.agent.detectors.sharing.spawned:Spawned",
    "pytest_celerypool.agent.detectors.sharing.foreign_timeouts:ForeignTimeouts",
)


class Detector:
    """Base of every detector; all of its methods may be left as they are.

    One object serves one process: in each forked child of prefork it is a copy, told by :meth:`forked`. What a method
    raises switches the detector off and is reported; the task goes on.

    :ivar watch: the worker as the detector sees it: its pool, the tasks that run, where to report.
    """

    #: The kinds of findings that it reports.
    kinds: ClassVar[Sequence[Kind]] = ()

    #: If not empty, :meth:`ended` is called only of tasks whose :attr:`Run.marks` have it: of most, nobody is told.
    mark: str = ""

    #: The classes of results of which :meth:`returned` is called, not those derived from them; of all if ``None``.
    results: ClassVar[frozenset[type] | None] = None

    #: Whether it has not been switched off.
    active = True

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._patches: list[Replacement] = []
        #: The names of methods that need not be called for now.
        self.resting: set[str] = set()
        #: Tasks by name, each with one of those methods that is not called for it.
        self.passed: set[tuple[str, str]] = set()

    def rest(self, *methods: str) -> None:
        """Not be called for every task by some of :meth:`started`, :meth:`ended` and the like, until :meth:`listen`."""
        self.resting.update(methods)
        self.watch.bind()

    def listen(self, *methods: str) -> None:
        """End :meth:`rest`."""
        self.resting.difference_update(methods)
        self.watch.bind()

    def pass_over(self, task: str, *methods: str) -> None:
        """Not be called for the tasks of a name any more, by :meth:`started`, :meth:`ended` or both.

        Of what there may be to see nothing is to depend on their arguments. A detector with a :attr:`mark` hears of
        the ends of tasks that have it all the same.
        """
        self.passed.update((task, method) for method in methods)
        self.watch.forget(task)

    def heed_all(self) -> None:
        """End :meth:`pass_over` of every task."""
        self.passed.clear()
        self.watch.bind()

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Return whether the pool of this worker can show any of the kinds."""
        return True

    def install(self) -> None:
        """Begin: under the launch ``subprocess`` nothing of the user's is imported yet."""

    def begin(self) -> None:
        """The application is imported (:attr:`Watch.app`), the worker is not started yet."""

    def ready(self, controller: Any) -> None:
        """The worker consumes; `controller` is Celery's ``WorkController``."""

    def forked(self) -> None:
        """Go on in this process, a new child of prefork."""

    def started(self, run: Run) -> None:
        """A task begins in this slot; it is among :attr:`Watch.running` already."""

    def opened(self, run: Run, file: Any, path: Any, mode: Any) -> None:
        """The code of a task has called ``open``.

        :param file: what it gave.
        :param path: as it was given.
        :param mode: as it was given.
        """

    def imported(self) -> None:
        """``sys.modules`` has more or less entries than before.

        Told when a task begins and ends, before that is; in each process before its first task too.
        """

    def returned(self, run: Run, result: Any) -> None:
        """The task's own code has returned `result`, which is stored next; what happens from here on is Celery's."""

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """A task leaves its slot.

        :param state: Celery's, ``None`` if it was left by ``SystemExit`` and the like.
        :param exc: what it raised, if anything.
        """

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """A task leaves its slot otherwise than by ``SUCCESS``; called after :meth:`ended`, with the same."""

    def stopping(self) -> None:
        """The worker begins to shut down (in its main process)."""

    def remove(self) -> None:
        """End; what was changed is put back. An override calls this one."""
        for patch in reversed(self._patches):
            patch.end()
        self._patches.clear()

    def after(self, owner: Any, name: str, callback: Callable[..., None], *, in_task: bool = False) -> None:
        """Have `callback` called with ``(result, *args, **kwargs)`` after each call of a function.

        It ends with :meth:`remove`.

        :param owner: the module or class whose attribute `name` the function is.
        :param in_task: whether only calls by the code of a task are of interest; others then cost less.
        """
        owner, original, function = self._original(owner, name)
        guarded = self.watch.guarded(self, callback)
        current = self.watch.current if in_task else None

        @functools.wraps(function)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if current is None or current() is not None:
                guarded(result, *args, **kwargs)
            return result

        self.patch(owner, name, replacement if function is original else type(original)(replacement))

    def before(self, owner: Any, name: str, callback: Callable[..., None], *, in_task: bool = False) -> None:
        """Have `callback` called with the arguments before each call of a function, as :meth:`after` does after it."""
        owner, original, function = self._original(owner, name)
        guarded = self.watch.guarded(self, callback)
        current = self.watch.current if in_task else None

        @functools.wraps(function)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            if current is None or current() is not None:
                guarded(*args, **kwargs)
            return function(*args, **kwargs)

        self.patch(owner, name, replacement if function is original else type(original)(replacement))

    @staticmethod
    def _original(owner: Any, name: str) -> tuple[Any, Any, Callable[..., Any]]:
        """Return what has an attribute, the attribute, and the function in it.

        Of a class it may be a base: gevent puts a class of its own in the place of ``threading.Thread``, which has no
        ``start``.
        """
        if isinstance(owner, type):
            owner = next(cls for cls in owner.__mro__ if name in vars(cls))
        original = vars(owner)[name]
        return owner, original, original.__func__ if isinstance(original, staticmethod | classmethod) else original

    def patch(self, owner: Any, name: str, replacement: Any) -> None:
        """Replace an attribute of a module or class, that of a base class too, until :meth:`remove`."""
        self._patches.append(Replacement(owner, name, replacement))
