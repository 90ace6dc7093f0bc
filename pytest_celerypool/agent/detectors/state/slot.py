"""State of one slot that a task leaves to the next one: context variables, the decimal context, thread locals, loops.

Each thread has a context, thread locals and a current event loop of its own, which live as long as the thread, that is
for many tasks. Every greenlet of gevent and eventlet begins with fresh ones: nothing is left there.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.state import sources as state_sources
from pytest_celerypool.agent.detectors.state.changes import LEFT, Subject, report_left, same, text_of
from pytest_celerypool.agent.receivers import receivers_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_MARK, _APPLICATION = "state-slot", "state-application"
_MISSING: Any = type("missing", (), {"__repr__": lambda self: "unset"})()

#: What a request or a tenant is told by. Other things in a thread local are mostly kept on purpose: clients, caches.
_PLAIN = (str, bytes, int, float, complex, tuple, list, dict, set, frozenset)

_RESET = "Reset it in a finally: token = VAR.set(...), VAR.reset(token); or begin each task with a value of its own."
_STRUCTLOG = "Begin each task with structlog.contextvars.clear_contextvars(), or bind with bound_contextvars(...)."
_DECIMAL = "Use decimal.localcontext(), or a decimal.Context of the task's own."
_LOCAL = "Delete the attribute in a finally, or hand the value on as an argument."
_APP = "Make applications at import, by Celery(..., set_as_current=False), and put back the one that was current."
_LOOP = "Use asyncio.run(...), or asyncio.Runner, which put it back."


class Left(NamedTuple):
    """Something that a task left in its slot.

    :ivar old: the text of what was there before.
    :ivar new: the text of what it left.
    :ivar stack: the place of the user's line.
    :ivar held: returns from a snapshot of the slot what is there.
    :ivar value: what the task left.
    """

    run: Run
    subject: Subject
    old: str
    new: str
    stack: list[str]
    held: Callable[[Snapshot], Any]
    value: Any

    def still(self, snapshot: Snapshot) -> bool:
        """Whether that is there, and not only something equal."""
        return self.held(snapshot) is self.value


class Snapshot(NamedTuple):
    """What a slot holds: its context, its decimal context and a copy of that, the contents of thread locals."""

    context: contextvars.Context
    decimal: Any
    decimal_copy: Any
    local: list[dict[str, Any]]


class SlotState(Detector):
    """Compares what is in a slot at the end of a task with what was there at its start."""

    kinds = (LEFT,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._decimal = _decimal_variable()
        self._names: dict[contextvars.ContextVar[Any], tuple[str, str]] = {}
        self._locals: list[tuple[str, str, Any]] = []
        self._modules = 0
        self._left: dict[int, list[Left]] = {}
        self._loops: dict[str, Any] = {}
        #: Where the user's receivers set something for tasks: what was in a slot after its last task.
        self._ends: dict[int, Snapshot] = {}
        self._receivers: list[Any] | None = None
        #: What Celery keeps for each thread; it must not be imported before the pool has patched.
        self._celery: Any = None

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Where slots are greenlets each task has fresh ones."""
        return not watch.pool.green

    def install(self) -> None:
        """Hear of loops that are closed."""
        import asyncio.base_events

        self.after(asyncio.base_events.BaseEventLoop, "close", self._on_close)

    def begin(self) -> None:
        """Look for thread locals of the application, and what is in the slot of this thread."""
        from celery._state import _tls

        self._celery = _tls
        self._scan()
        self._ends[originals.get_ident()] = self._snapshot()

    def forked(self) -> None:
        """Forget the parent's slot."""
        self._left.clear()
        self._ends = {originals.get_ident(): self._snapshot()}

    # -- a task

    def started(self, run: Run) -> None:
        """Note what is in the slot."""
        run.marks[_MARK] = self._snapshot()
        run.marks[_APPLICATION] = self._celery.current_app

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Compare."""
        before: Snapshot = run.marks.pop(_MARK)
        after = self._snapshot()
        slot = originals.get_ident()
        kept = self._inherited(run, before, after, slot) if self._left else []
        if after.context != before.context or after.local != before.local or self._decimal_changed(before, after):
            kept += self._compare(run, before, after)
        if self._receivers is None:
            from celery.signals import task_prerun

            self._receivers = receivers_of(task_prerun, self.watch.frames)
        if self._receivers:
            kept += self._given(run, before, after, slot)
            self._ends[slot] = after
        if kept:
            self._left[slot] = kept
        if self._loops:
            self._compare_loop(run)
        if self._celery.current_app is not run.marks[_APPLICATION]:
            self._application_left(run, run.marks[_APPLICATION], self._celery.current_app)
        if len(sys.modules) != self._modules:
            self._scan()

    def _inherited(self, run: Run, before: Snapshot, after: Snapshot, slot: int) -> list[Left]:
        """Report what a task got that was left for it; returns what it has left once more, though set anew."""
        kept = []
        for left in self._left.pop(slot, ()):
            # Still the same value: it was there when this task began, and it set nothing of its own.
            if left.still(before) and left.still(after):
                self._report(left, run)
            elif same(left.held(after), left.value):
                kept.append(left._replace(run=run, value=left.held(after)))
        return kept

    def _snapshot(self) -> Snapshot:
        context = contextvars.copy_context()
        decimal = context.get(self._decimal)
        return Snapshot(
            context,
            decimal,
            None if decimal is None else decimal.copy(),
            [dict(each[2].__dict__) for each in self._locals] if self._locals else [],
        )

    def _decimal_changed(self, before: Snapshot, after: Snapshot) -> bool:
        if after.decimal is None or (before.decimal is None and after.decimal is None):
            return False
        one, other = before.decimal_copy or _default_decimal(), after.decimal_copy
        return (
            one.prec != other.prec
            or one.rounding != other.rounding
            or (one.Emin, one.Emax, one.capitals, one.clamp) != (other.Emin, other.Emax, other.capitals, other.clamp)
            or one.traps != other.traps
        )

    def _compare(self, run: Run, before: Snapshot, after: Snapshot) -> list[Left]:
        """Return what a task has changed in its slot, and report it if nobody else can put it back."""
        found = [*self._variables(run, before, after), *self._locals_left(run, before, after)]
        if self._decimal_changed(before, after):
            found.append(self._decimal_left(run, before, after))
        if found and not self._users_receivers():
            for left in found:
                self._report(left, None)
        return found

    def _given(self, run: Run, before: Snapshot, after: Snapshot, slot: int) -> list[Left]:
        """Return what receivers of ``task_prerun`` have set for a task, and is there after it."""
        last = self._ends.get(slot) or Snapshot(contextvars.Context(), None, None, [{} for _ in self._locals])
        if before.context == last.context and before.local == last.local:
            return []
        found = [*self._variables(run, last, before), *self._locals_left(run, last, before)]
        return [left for left in found if left.still(after) and not self._is_constant(left.value)]

    def _is_constant(self, value: Any) -> bool:
        """Whether the user's receivers have a value themselves: the next task may be given the same object."""
        return any(
            value is each
            for receiver in self._receivers or ()
            for each in (*receiver.__code__.co_consts, *list(receiver.__globals__.values()))
        )

    def _report(self, left: Left, heir: Run | None) -> None:
        report_left(self.watch, left.run, left.subject, left.old, left.new, left.stack, heir)

    def _users_receivers(self) -> bool:
        """Whether the user hears of the starts and ends of tasks: he may put things back there, later than this."""
        from celery import signals

        return any(receivers_of(signal, self.watch.frames) for signal in (signals.task_prerun, signals.task_postrun))

    # -- context variables

    def _variables(self, run: Run, before: Snapshot, after: Snapshot) -> Iterator[Left]:
        for variable, value in after.context.items():
            old = before.context.get(variable, _MISSING)
            if value is old or variable is self._decimal or value is None or same(value, old):
                continue
            if same(value, _default_of(variable)):  # as good as a reset
                continue
            owner = self._owner(variable)
            name, remedy = (owner[1], _RESET) if owner is not None else (variable.name, _STRUCTLOG)
            if owner is not None:
                sets = state_sources.calls_method(name.rpartition(".")[2], "set")
                line = state_sources.find(run.task, self._files(owner[0]), sets)
            else:
                line = self._bound(run, variable)
                if line is None:  # the library does it on its own account, and knows what it does
                    continue
            subject = Subject(("context", name), f"the context variable {name}", remedy, "slot")
            yield Left(run, subject, text_of(old), text_of(value), self._stack(run, line), _in(variable), value)

    def _owner(self, variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
        """Return the user's module and the name there of a context variable."""
        if variable not in self._names:
            for module, name, value in self._globals():
                if isinstance(value, contextvars.ContextVar):
                    self._names[value] = module, name
        return self._names.get(variable)

    def _bound(self, run: Run, variable: contextvars.ContextVar[Any]) -> state_sources.Line | None:
        """Return the user's line that binds a key of structlog's context, if no line of his clears that.

        It has a variable for each key: https://www.structlog.org/en/stable/contextvars.html.
        """
        if not variable.name.startswith("structlog_") or "structlog.contextvars" not in sys.modules:
            return None
        files = self._files("")
        if state_sources.find(run.task, files, state_sources.calls("clear_contextvars")) is not None:
            return None
        return state_sources.find(run.task, files, state_sources.calls("bind_contextvars"))

    # -- thread locals

    def _scan(self) -> None:
        self._modules = len(sys.modules)
        # Asking one that has an __init__ for its contents would run that in this thread.
        self._locals = [
            each
            for each in self._globals()
            if issubclass(type(each[2]), threading.local) and type(each[2]).__init__ is threading.local.__init__
        ]

    def _locals_left(self, run: Run, before: Snapshot, after: Snapshot) -> Iterator[Left]:
        for index, (module, name, local) in enumerate(self._locals):
            if index >= len(before.local) or index >= len(after.local):
                return
            old, new = before.local[index], after.local[index]
            for attribute, value in new.items():
                was = old.get(attribute, getattr(type(local), attribute, _MISSING))
                if value is was or not value or not isinstance(value, _PLAIN) or same(value, was):
                    continue
                matches = state_sources.assigns_attribute(name.rpartition(".")[2], attribute)
                line = state_sources.find(run.task, self._files(module), matches)
                label = f"the thread local {name}.{attribute}"
                subject = Subject(("local", id(local), attribute), label, _LOCAL, "slot")
                held = _in_local(index, attribute)
                yield Left(run, subject, text_of(was), text_of(value), self._stack(run, line), held, value)

    # -- decimal

    def _decimal_left(self, run: Run, before: Snapshot, after: Snapshot) -> Left:
        old, new = _decimal_values(before.decimal_copy), _decimal_values(after.decimal_copy)
        names = (*state_sources.DECIMAL_FIELDS, "traps")
        differing = [index for index, value in enumerate(new) if value != old[index]]
        label = "the decimal context (" + ", ".join(names[index] for index in differing) + ")"
        line = state_sources.find(run.task, (), state_sources.sets_decimal_context)
        was, shown = (", ".join(text_of(values[index]) for index in differing) for values in (old, new))
        return Left(
            run,
            Subject("decimal", label, _DECIMAL, "slot"),
            was,
            shown,
            self._stack(run, line),
            lambda snapshot: new if snapshot.decimal and _decimal_values(snapshot.decimal_copy) == new else None,
            new,
        )

    # -- loops

    def _on_close(self, _result: None, loop: Any) -> None:
        run = self.watch.current()
        frame: FrameType | None = sys._getframe(2)
        # The wrapper of the guard, that of close(), and what asyncio has around it.
        while frame is not None and not self.watch.frames.is_user(frame.f_code.co_filename):
            if frame.f_code.co_filename.endswith("runners.py"):
                return
            frame = frame.f_back
        if run is not None and frame is not None:
            self._loops[run.id] = loop, self.watch.frames.stack(frame, 4)

    def _compare_loop(self, run: Run) -> None:
        loop, stack = self._loops.pop(run.id, (None, []))
        if loop is not None and _current_loop() is loop:
            subject = Subject("loop", "asyncio's current event loop", _LOOP, "slot")
            report_left(self.watch, run, subject, "an open one", "a closed one", stack, None)

    # -- Celery's current application

    def _application_left(self, run: Run, old: Any, new: Any) -> None:
        """Tell of the application that ``current_app`` and ``shared_task`` mean in this thread from now on."""
        files = self._files("")
        line = state_sources.find(run.task, files, state_sources.calls("set_current"))
        line = line or state_sources.find(run.task, files, state_sources.calls("Celery"))
        if line is not None:
            subject = Subject("application", "Celery's current application", _APP, "slot")
            report_left(self.watch, run, subject, _named(old), _named(new), self._stack(run, line), None)

    # -- the user's modules

    def _globals(self) -> Iterator[tuple[str, str, Any]]:
        """Return module, name and value of what the user's modules and their classes hold."""
        frames = self.watch.frames
        for name, module in list(sys.modules.items()):
            filename = getattr(module, "__file__", None)
            if not isinstance(filename, str) or not frames.is_user(filename):
                continue
            for attribute, value in list(vars(module).items()):
                yield name, attribute, value
                if isinstance(value, type) and value.__module__ == name:
                    for inner, member in list(vars(value).items()):
                        yield name, f"{attribute}.{inner}", member

    def _files(self, module: str) -> list[str]:
        """Return the files where a name of a module may be set: its own, and then all of the user's."""
        frames = self.watch.frames
        files = [getattr(each, "__file__", None) for each in [sys.modules.get(module), *sys.modules.values()]]
        return [file for file in files if isinstance(file, str) and file.endswith(".py") and frames.is_user(file)]

    def _stack(self, run: Run, line: state_sources.Line | None) -> list[str]:
        return [self.watch.frames.place_of(*(line or state_sources.task_line(run.task)))]


def _named(application: Any) -> str:
    return "unset" if application is None else text_of(application.main)


def _in(variable: contextvars.ContextVar[Any]) -> Callable[[Snapshot], Any]:
    return lambda snapshot: snapshot.context.get(variable, _MISSING)


def _in_local(index: int, attribute: str) -> Callable[[Snapshot], Any]:
    return lambda snapshot: snapshot.local[index].get(attribute) if index < len(snapshot.local) else None


def _default_of(variable: contextvars.ContextVar[Any]) -> Any:
    try:
        return contextvars.Context().run(variable.get)
    except LookupError:
        return _MISSING


def _decimal_variable() -> contextvars.ContextVar[Any]:
    """Return the context variable in which ``decimal`` keeps the current context; none is made in this thread."""
    import decimal

    def find() -> contextvars.ContextVar[Any]:
        mine = decimal.getcontext()
        return next(each for each, value in contextvars.copy_context().items() if value is mine)

    return contextvars.Context().run(find)


def _default_decimal() -> Any:
    """Return what the decimal context of a new thread is a copy of."""
    import decimal

    return decimal.DefaultContext


def _decimal_values(context: Any) -> tuple[Any, ...]:
    """Return what of a decimal context changes results; of none, what a new thread begins with."""
    context = context or _default_decimal()
    return (
        *(getattr(context, name) for name in state_sources.DECIMAL_FIELDS),
        tuple(sorted(signal.__name__ for signal, on in context.traps.items() if on)),
    )


def _current_loop() -> Any:
    """Return the current event loop of this thread without making one."""
    import asyncio.events

    policy = getattr(asyncio.events, "_event_loop_policy", None)
    return getattr(getattr(policy, "_local", None), "_loop", None)
