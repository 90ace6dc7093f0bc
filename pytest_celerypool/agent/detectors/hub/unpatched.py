"""What a green pool has not patched, used by its tasks: drivers in C, and state that C keeps for each thread.

All tasks of a green pool share one thread of the system. A driver that waits in C stops all of them; what C keeps for
each thread it keeps once for all of them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType
from typing import Any, ClassVar, NamedTuple

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.frames import Frames, chain
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.syntax import last_name, tree_of
from pytest_celerypool.trace import Kind

UNPATCHED = "unpatched"


class Driver(NamedTuple):
    """A driver that waits in C.

    :ivar module: where it connects.
    :ivar names: the functions that do.
    :ivar waits: whether it does wait in C, as it is set up now.
    :ivar remedy: by pool, or under "" for both.
    """

    module: str
    names: Sequence[str]
    waits: Callable[[str], bool]
    remedy: dict[str, str]


def _always(_pool: str) -> bool:
    return True


def _no_wait_callback(_pool: str) -> bool:
    extensions = sys.modules["psycopg2.extensions"]
    return extensions.get_wait_callback() is None


def _thick(_pool: str) -> bool:
    return not sys.modules["oracledb"].is_thin_mode()


def _grpc_not_told(pool: str) -> bool:
    if pool != "gevent":
        return True
    cygrpc = sys.modules.get("grpc._cython.cygrpc")
    # What init_gevent() sets; unknown to us in a version without it.
    return not getattr(cygrpc, "g_gevent_activated", True)


_IN_A_THREAD = {
    "gevent": "call it by gevent.get_hub().threadpool.apply(function, args)",
    "eventlet": "call it by eventlet.tpool.execute(function, *args)",
}

_COOPERATIVE = {
    "gevent": "use the methods of the socket or file, which wait, or gevent.os.tp_read(fd, n) and tp_write",
    "eventlet": "use the methods of the socket or file, which wait, or os.read and os.write, which are patched",
}

#: Functions of the module os that read or write what a descriptor stands for.
_RAW = frozenset({"read", "readv", "write", "writev", "preadv", "pwritev", "sendfile", "splice"})

#: What a project has that wants descriptors which do not block, under every pool.
_NON_BLOCKING = frozenset({"setblocking", "set_blocking", "O_NONBLOCK", "SOCK_NONBLOCK"})

DRIVERS = (
    Driver(
        "psycopg2",
        ("connect",),
        _no_wait_callback,
        {
            "gevent": "call psycogreen.gevent.patch_psycopg() before the first connection, or use psycopg 3",
            "eventlet": "call psycogreen.eventlet.patch_psycopg() before the first connection, or use psycopg 3",
        },
    ),
    Driver("MySQLdb", ("connect", "Connect", "Connection"), _always, {"": "use PyMySQL: it is made of Python"}),
    Driver("pymssql", ("connect",), _always, {"": "use python-tds (pytds): it is made of Python"}),
    Driver("cx_Oracle", ("connect", "Connection"), _always, {"": "use oracledb in its thin mode"}),
    Driver("oracledb", ("connect",), _thick, {"": "use its thin mode: do not call init_oracle_client()"}),
    Driver("pyodbc", ("connect",), _always, _IN_A_THREAD),
    Driver("ibm_db", ("connect", "pconnect"), _always, _IN_A_THREAD),
    Driver("ldap", ("initialize",), _always, {"": "use ldap3: it is made of Python"}),
    Driver(
        "grpc",
        ("insecure_channel", "secure_channel"),
        _grpc_not_told,
        {
            "gevent": "call grpc.experimental.gevent.init_gevent() before the first channel",
            "eventlet": "grpc does not know eventlet: run such tasks under another pool",
        },
    ),
)


class Unpatched(Detector):
    """Sees connections of drivers that wait in C, ``ctypes.get_errno``, and originals that user's code asks for."""

    kinds: ClassVar[Sequence[Kind]] = (
        Kind(UNPATCHED, "fail", "a task uses what the library of its pool has not made cooperative"),
    )

    @classmethod
    def wanted(cls, watch: Any) -> bool:
        """Only greenlets share a thread."""
        return bool(watch.pool.green)

    def install(self) -> None:
        """See what asks for originals, and ctypes' number of the last error."""
        self._waiting = {driver.module: driver for driver in DRIVERS}
        self._errno: tuple[int, Run] | None = None
        self._watch_ctypes()
        self._watch_originals()

    def begin(self) -> None:
        """See the drivers that the application has imported."""
        self._look_for_drivers()

    def imported(self) -> None:
        """See what a task has imported."""
        self._look_for_drivers()

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Tell of a task that failed since the descriptor of what the pool has made cooperative does not block."""
        for each in () if exc is None else chain(exc):
            call = _raw_call(each, self.watch.frames) if isinstance(each, BlockingIOError) else None
            if call is not None:
                places = self.watch.frames.raised_places(each)
                self.watch.report(
                    UNPATCHED,
                    run,
                    f"it calls {call} on a descriptor that {self.watch.pool.name} has made non-blocking, as it does "
                    "with those of all sockets and pipes: what is not there yet is not waited for, but an error",
                    [*places, f"{type(each).__name__}: {each}", f"task {run.id}"],
                    _COOPERATIVE.get(self.watch.pool.name, "use the methods of the socket or file, which wait"),
                    key=places[0],
                )

    # -- drivers

    def _look_for_drivers(self) -> None:
        for name in [name for name in self._waiting if name in sys.modules]:
            module = sys.modules[name]
            if getattr(getattr(module, "__spec__", None), "_initializing", False):
                continue  # another task is about to import it
            driver = self._waiting.pop(name)
            for function in driver.names:
                # A class stays one: people inherit from it.
                if callable(vars(module).get(function)) and not isinstance(vars(module)[function], type):
                    self.before(module, function, self._connects(driver))

    def _connects(self, driver: Driver) -> Callable[..., None]:
        def connects(*_args: Any, **_kwargs: Any) -> None:
            run = self.watch.current()
            pool = self.watch.pool.name
            if run is None or not driver.waits(pool):
                return
            frames = self.watch.frames
            frame = frames.user_frame()
            place = frames.place(frame)
            others = len(self.watch.running()) - 1
            self.watch.report(
                UNPATCHED,
                run,
                f"it connects by {driver.module}, which waits for its server in C: {pool} has not patched it, so that "
                "every query stops all other tasks of this worker until it is answered",
                [place, *frames.stack(frame)[1:], f"task {run.id}; {others} other tasks were running"],
                driver.remedy.get(pool) or driver.remedy[""],
            )

        return connects

    # -- what C keeps for each thread

    def _watch_ctypes(self) -> None:
        import ctypes

        self.before(ctypes, "set_errno", self._errno_set)
        self.after(ctypes, "get_errno", self._errno_read)

    def _errno_set(self, value: int) -> None:
        run = self.watch.current()
        if run is not None:
            run.marks[UNPATCHED] = value
            self._errno = (value, run)

    def _errno_read(self, value: int) -> None:
        run = self.watch.current()
        if run is None or self._errno is None:
            return
        written, writer = self._errno
        own = run.marks.get(UNPATCHED)
        if writer is run or own is None or own == value or value != written:
            return
        self._mixed(run, writer, "ctypes' number of the last error", f"set {own}, and reads {value}", others=[writer])

    def _mixed(self, run: Run, other: Run, what: str, how: str, others: Sequence[Run]) -> None:
        frames = self.watch.frames
        frame = frames.user_frame()
        self.watch.report(
            UNPATCHED,
            run,
            f"it {how}, which {other.task.name} has set meanwhile: {what} is kept for each thread of the system, and "
            f"under {self.watch.pool.name} all tasks share one",
            [*frames.stack(frame), f"task {run.id}; set by {other.task.name}[{other.id}]"],
            "read it at once, before anything that may yield, and keep it in a variable of the task",
            others=others,
        )

    # -- originals

    def _watch_originals(self) -> None:
        """Have the originals that the user's own code asks for tell when tasks get in each other's way with them."""
        if self.watch.pool.name == "gevent":
            from gevent import monkey

            original = monkey.get_original

            def get_original(mod_name: str, item_name: Any) -> Any:
                found = original(mod_name, item_name)
                if not self._asked_by_user(sys._getframe(1)):
                    return found
                return [self._telling(one) for one in found] if isinstance(found, list) else self._telling(found)

            self.patch(monkey, "get_original", get_original)
        elif self.watch.pool.name == "eventlet":
            from eventlet import patcher

            unpatched = patcher.original

            def original_module(modname: str) -> Any:
                found = unpatched(modname)
                return self._telling_module(found) if self._asked_by_user(sys._getframe(1)) else found

            self.patch(patcher, "original", original_module)

    def _asked_by_user(self, frame: FrameType) -> bool:
        return self.watch.frames.is_user(frame.f_code.co_filename)

    def _telling_module(self, module: ModuleType) -> Any:
        """Return a module like the one given, but for what can tell."""
        changed = {name: self._telling(one) for name, one in vars(module).items() if name in ("local", "RLock")}
        changed = {name: one for name, one in changed.items() if one is not vars(module)[name]}
        if not changed:
            return module
        copy = ModuleType(module.__name__, module.__doc__)
        vars(copy).update({**vars(module), **changed})
        return copy

    def _telling(self, original: Any) -> Any:
        from pytest_celerypool.agent.detectors.hub import unpatched_types

        return unpatched_types.telling(original, self.watch.current, self._misused)

    def _misused(self, run: Run, other: Run, what: str, how: str) -> None:
        frames = self.watch.frames
        frame = frames.user_frame()
        self.watch.report(
            UNPATCHED,
            run,
            f"{how}: {what} belongs to a thread of the system, {self.watch.pool.name} has not patched it, and all "
            "tasks share one thread",
            [*frames.stack(frame), f"task {run.id}; the other is {other.task.name}[{other.id}]"],
            "use the one of the module threading, which is patched",
            others=[other],
        )


def _raw_call(exc: BaseException, frames: Frames) -> str | None:
    """Return the function of the module os that raised an exception in a line of the user's; ``None`` if none did."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = None if trace is None else trace.tb_frame.f_code
    tree = None if code is None or not frames.is_user(code.co_filename) else tree_of(code.co_filename)
    nodes = [] if tree is None else list(ast.walk(tree))
    if any(isinstance(each, ast.expr) and last_name(each) in _NON_BLOCKING for each in nodes):
        return None
    line = 0 if trace is None else trace.tb_lineno
    calls = [each for each in nodes if isinstance(each, ast.Call) and each.lineno == line]
    return next((ast.unparse(each.func) for each in calls if last_name(each.func) in _RAW), None)
