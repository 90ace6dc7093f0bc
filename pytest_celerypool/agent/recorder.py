"""Write down what happens to tasks in this worker: one line a record, appended to the worker's trace.

The file is opened once for appending and inherited by forked children: a single ``write`` of a line to it is
atomic, never blocks, and what was written survives a killed process. Where all tasks run in one process most lines
are copied to a :class:`~pytest_celerypool.agent.tape.Tape` instead, which costs less.
"""

from __future__ import annotations

import json
import marshal
import os
import sys
import threading
import time
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import commands, originals, storing
from pytest_celerypool.agent.collecting import Collections
from pytest_celerypool.agent.meters import Clocks, Run, SwitchTracer, ThreadMeter
from pytest_celerypool.agent.publishing import Publication
from pytest_celerypool.agent.receivers import call_directly, connect
from pytest_celerypool.agent.replacing import Replacement
from pytest_celerypool.agent.tape import Tape
from pytest_celerypool.trace import MARSHAL, PACKED, TAPE

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

_encoder = json.JSONEncoder(separators=(",", ":"), default=repr)


class Writer:
    """Appends records to the trace file at `path`.

    :param contended: whether other threads run Python while a task does.
    :param alone: whether this process alone writes, and to the end of its life: it has a tape beside the file. Should
        it fork all the same, its children write to the file.
    """

    def __init__(self, path: str, *, contended: bool = True, alone: bool = False) -> None:
        self._path = path
        self._append = originals.append if contended else originals.write
        self._fd = self._open()
        self._tape: Tape | None = None
        if alone and hasattr(os, "posix_fallocate"):
            try:
                self._tape = Tape(path + TAPE)
            except OSError:  # the file does as well
                return
            os.register_at_fork(after_in_child=self._leave_tape)

    def _leave_tape(self) -> None:
        self._tape = None

    def _open(self) -> int:
        return originals.open_file(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, kind: str, /, **fields: Any) -> None:
        """Append one record of the given `kind`."""
        self.append(_encoder.encode({"e": kind, **fields}))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def append(self, record: str) -> None:
        """Append one record that is JSON already."""
        self._put(record.encode() + b"\n")

    def pack(self, record: tuple[Any, ...]) -> None:
        """Append one record of those that every task has: its values, as :data:`PACKED` names them, and its kind."""
        try:
            line = b2a_base64(marshal.dumps(record, MARSHAL))
        except ValueError:  # a value is of none of Python's plain types: a class derived from str
            *values, kind = record
            self.write(kind, **dict(zip(PACKED[kind], values, strict=False)))
            return
        # As _put(), mostly without its calls: all this is in none of the processor's caches when a task needs it.
        tape = self._tape
        if tape is not None:
            try:
                tape.write(line)
            except ValueError:  # it does not fit
                self._put(line)
        else:
            self._put(line)

    def _put(self, line: bytes) -> None:
        if self._tape is not None and self._tape.append(line):
            return
        try:
            self._append(self._fd, line)
        except OSError:  # the user's code closed every descriptor, as daemons do
            self._fd = self._open()
            self._append(self._fd, line)


def describe_exception(exc: BaseException | None) -> dict[str, Any] | None:
    """Return an exception as plain data, in the form Celery's JSON results use."""
    if exc is None:
        return None
    try:
        args = json.loads(json.dumps(list(exc.args)))
    except (TypeError, ValueError):
        args = [_short(argument) for argument in exc.args]
    cls = type(exc)
    return {"type": cls.__qualname__, "module": cls.__module__, "args": args, "text": _short(exc)}


def _short(value: Any, limit: int = 400) -> str:
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<unprintable {type(value).__name__}: {type(exc).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Recorder:
    """Turns Celery's signals into records; its own failures are recorded and spoil no task.

    :param writer: takes the records.
    :param green: whether the slots are greenlets.
    :param app: the application whose tasks are recorded; all of the process if ``None``.
    :param contended: whether other threads run Python while a task does.
    :ivar tracer: sees the switches of a green pool; ``None`` in any other.
    :ivar running: the executions in this process, by greenlet in a green pool and by thread in any other.
    :ivar key: returns the current one of those.
    :ivar collections: of garbage, in this process.
    :ivar watch: is told of every start and end; ``None`` without detectors.

    What runs for every task (``_on_received``, ``_on_prerun``, ``_on_postrun``) guards itself and packs its records:
    through :meth:`_guarded` and :meth:`Writer.write` it would cost half as much again.
    """

    def __init__(self, writer: Writer, *, green: bool, app: Any = None, contended: bool = True) -> None:
        self.writer = writer
        self._app = app
        self._clocks = Clocks(contended=contended)
        self.tracer = SwitchTracer(self._clocks) if green else None
        self.watch: Watch | None = None
        self.running: dict[Any, Run] = {}
        self.key: Callable[[], Any] = originals.get_ident
        if self.tracer is not None:
            self.running, self.key = self.tracer.running, self.tracer.getcurrent  # type: ignore[assignment]
        slots: Callable[[Any], Run | None] = self.running.get if self.tracer is None else self.tracer.meters.get
        self.collections = Collections(lambda: slots(self.key()), self._collected)
        self._greenlets = 0
        self._child: str | None = None
        self._child_of = 0
        self._failed: set[str] = set()

    # -- connecting

    def connect(self) -> Callable[[], None]:
        """Listen to Celery's signals, and replace the functions of Celery that tell more; returns what ends this."""
        from celery import signals
        from celery.app import trace

        received, prerun, postrun = self._on_received, self._on_prerun, self._on_postrun
        deafen = connect(
            (signals.task_received, received),
            (signals.task_prerun, prerun),
            (signals.task_postrun, postrun),
            (signals.task_failure, self._guarded(self._on_failure)),
            (signals.task_revoked, self._guarded(self._on_revoked)),
            (signals.task_rejected, self._guarded(self._on_rejected)),
            (signals.task_unknown, self._guarded(self._on_unknown)),
        )
        endings = [
            self._watch_timeouts(),
            storing.watch(self),
            commands.watch(self),
            call_directly(signals.task_received, received, (signals.task_received, "send")),
            call_directly(signals.task_prerun, prerun, (trace, "send_prerun")),
            call_directly(signals.task_postrun, postrun, (trace, "send_postrun")),
        ]
        self.collections.install()

        def disconnect() -> None:
            for end in endings:
                end()
            deafen()
            self.collections.remove()
            if self.tracer is not None:
                self.tracer.uninstall()

        return disconnect

    def foreign(self, app: Any) -> bool:
        """Whether something concerns another application of the same process."""
        return self._app is not None and app is not self._app

    def _guarded(self, handler: Callable[..., None]) -> Callable[..., None]:
        name = handler.__name__

        def receiver(**kwargs: Any) -> None:
            try:
                handler(**kwargs)
            except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
                self.failed(name, exc)

        return receiver

    def current(self) -> Run | None:
        """Return the execution in the current slot, ``None`` outside of any."""
        return self.running.get(self.key())

    def failed(self, where: str, exc: BaseException) -> None:
        """Record once for each place that the agent itself failed there."""
        if where not in self._failed:
            self._failed.add(where)
            self.writer.write("agent-error", where=where, error=_short(exc))

    def _collected(self, began: float, took: float) -> None:
        """Record that Python collected garbage by itself; called in the middle of anything, this class included."""
        self.writer.append(f'{{"e":"gc","t":{began},"took":{took:.9f},"pid":{os.getpid()}}}')

    def _watch_timeouts(self) -> Callable[[], None]:
        """Record hard time limits: only Celery 5.7 sends ``task_failure`` for them."""
        from celery.worker.request import Request

        original = Request.on_timeout
        recorder, watching = self, True

        def on_timeout(self: Any, soft: bool, timeout: float) -> Any:
            result = original(self, soft, timeout)
            if watching and not soft and not recorder.foreign(self.app):
                recorder._settle(self.id, "FAILURE", self.name, text=f"TimeLimitExceeded({timeout})")
            return result

        def unwatch() -> None:
            nonlocal watching
            watching = False  # a recorder that began later may still call it
            replaced.end()

        replaced = Replacement(Request, "on_timeout", on_timeout)
        return unwatch

    # -- publications

    def published(self, publication: Publication, _producer: Any) -> None:
        """Record a message that a task, or the worker itself, is about to publish."""
        try:
            self.writer.write(
                "pub",
                t=publication.published,
                id=publication.id,
                task=publication.task,
                parent=publication.parent,
                retries=publication.retries,
                eta=publication.eta,
                queue=publication.queue,
                **({} if publication.route is None else {"route": publication.route}),
                **({} if publication.through is None else {"through": publication.through}),
            )
        except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
            self.failed("published", exc)

    def unpublished(self, publication: Publication) -> None:
        """Record that the message just announced could not be sent."""
        self.writer.write("unpub", t=time.monotonic(), id=publication.id)

    def commanded(self, name: str, arguments: Mapping[str, Any], *, sent: bool = False) -> None:
        """Record a remote control command that may have changed the worker, or may do so once it has come."""
        try:
            self.writer.write("sent" if sent else "command", t=time.monotonic(), name=name, arguments=arguments)
        except Exception as exc:  # noqa: BLE001 - the worker goes on, the report says what failed
            self.failed("commanded", exc)

    # -- signals of the worker's main process

    def _on_received(self, request: Any = None, **_: Any) -> None:
        try:
            if self._app is not None and request.app is not self._app:
                return
            eta, retries = request.eta, request.request_dict.get("retries") or 0
            about = (time.monotonic(), request.id, request.name, retries, str(eta) if eta else None)
            self.writer.pack((*about, "recv"))
        except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
            self.failed("_on_received", exc)

    def _on_revoked(self, request: Any = None, expired: bool = False, **_: Any) -> None:
        if self.foreign(getattr(request, "app", self._app)):
            return
        text = "TaskRevokedError('expired')" if expired else "TaskRevokedError('revoked')"
        name = getattr(request, "task", None) or getattr(request, "name", None)
        self._settle(request.id, "REVOKED", name, text=text)

    def _on_rejected(self, sender: Any = None, message: Any = None, exc: Any = None, **_: Any) -> None:
        if self.foreign(getattr(sender, "app", self._app)):
            return
        task_id = (message.headers or {}).get("id")
        if task_id:
            reason = {"type": "Reject", "module": "celery.exceptions", "args": [str(exc)], "text": _short(exc)}
            task = (message.headers or {}).get("task")
            self._settle(task_id, "REJECTED", task, exc=None if exc is None else reason, text="Reject()")

    def _on_unknown(
        self,
        sender: Any = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - the signal's own name
        **_: Any,
    ) -> None:
        if self.foreign(getattr(sender, "app", self._app)):
            return
        self.writer.write("unknown", t=time.monotonic(), id=id, task=name)

    def _on_failure(self, sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
        """A failure that no slot reports: the child was lost, or killed for its time limit."""
        if self.foreign(getattr(sender, "app", self._app)):
            return
        running = self.running.get(self.key())
        if running is None or running.id != task_id:
            described = describe_exception(exception)
            self._settle(task_id, "FAILURE", getattr(sender, "name", None), exc=described)

    def _settle(self, task_id: str, state: str, task: str | None, *, exc: Any = None, text: str = "") -> None:
        kind, _, rest = text.partition("(")
        described = exc or {
            "type": kind,
            "module": "celery.exceptions",
            "args": [rest.rstrip(")").strip("'")],
            "text": text,
        }
        self.writer.write("settle", t=time.monotonic(), id=task_id, task=task, state=state, exc=described)

    # -- signals of the slot

    def _slot(self, pid: int) -> str:
        """Return the name of the current slot, where it is no greenlet."""
        if self._child_of != pid:
            from billiard.process import current_process

            index = getattr(current_process(), "index", None)
            self._child, self._child_of = None if index is None else f"child {index}", pid
        return self._child or threading.current_thread().name

    def _on_prerun(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        try:
            request = task.request_stack.top
            if request.is_eager:
                outer = self.current()
                if outer is not None:
                    outer.nests = True
                return
            if self._app is not None and task.app is not self._app:
                return
            clocks = self._clocks
            pid = os.getpid()
            if pid != clocks.pid:
                clocks.renew(pid)
            tracer = self.tracer
            if tracer is not None:
                self._greenlets += 1
                slot = f"greenlet {self._greenlets}"
            else:
                slot = self._slot(pid)
            about = (task_id, task.name, request.retries or 0, pid, slot)
            if tracer is not None:
                run: Run = tracer.start(task_id, task, about)
            else:
                run = self.running[originals.get_ident()] = ThreadMeter(clocks, task_id, task, about)
            run.limits = request.timelimit
            started, delayed = run.started, run.delayed
            args, kwargs, memory = request.argsrepr, request.kwargsrepr, clocks.recent_memory(started)
            self.writer.pack((started, *about, args or None, kwargs or None, memory, delayed, "start"))
            if self.watch is not None:
                self.watch.started(run)
            run.begin()
        except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
            self.failed("_on_prerun", exc)

    def _on_postrun(
        self, task_id: str = "", task: Any = None, state: str | None = None, retval: Any = None, **__: Any
    ) -> None:
        try:
            key = self.key()
            meter = self.running.get(key)
            if meter is None or meter.nests or meter.id != task_id:
                request = task.request_stack.top
                if request.is_eager or (self._app is not None and task.app is not self._app):
                    return
            if meter is not None:
                del self.running[key]
                ended, cpu, wait, hold, kept, delay, stored, collected, swept = meter.stop()
                about, clocks = meter.about, self._clocks
                # While other tasks run nobody can tell whose the growth is, and an older figure is as good.
                memory = meter.memory = clocks.recent_memory(ended) if self.running else clocks.memory(ended)
                measured: tuple[Any, ...] = (cpu, wait, delay, stored, memory, hold, kept)
                if collected:
                    measured += (collected, swept)
            else:
                ended, measured = time.monotonic(), ()
                about = (task_id, task.name, request.retries or 0, os.getpid(), None)
            raised = sys.exc_info()[1]
            if raised is not None and (state is None or _leaves(raised)):
                state = self._left_by(raised, task_id)
            else:
                raised = None if state == "SUCCESS" else _raised(state, retval)
            if meter is not None and self.watch is not None:
                # Before the record: whoever has read that the task ended has read what was found.
                self.watch.ended(meter, state, raised)
            self.writer.pack((ended, *about, state, describe_exception(raised), *measured, "end"))
        except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
            self.failed("_on_postrun", exc)

    def _left_by(self, passes: BaseException, task_id: str) -> str | None:
        """Return the state that Celery stores of a task whose tracer an exception passes through; ``None`` if none."""
        if _fails_behind_the_task(passes):
            self.writer.write("astray", t=time.monotonic(), id=task_id)
            return "FAILURE"
        if storing.cannot_be_stored(passes):
            self.writer.write("unstorable", t=time.monotonic(), id=task_id)
        return None


def _leaves(passes: BaseException) -> bool:
    """Whether an ``Exception`` passes through Celery's tracer at this moment.

    It sends ``task_postrun`` from a ``finally``, and what passes through has it for the outermost frame by then. The
    state is that of before: none as long as the task's own code runs or its failure is stored, ``SUCCESS`` after that.
    """
    trace = passes.__traceback__
    return isinstance(passes, Exception) and trace is not None and trace.tb_frame.f_code.co_name == "trace_task"


def _fails_behind_the_task(raised: BaseException) -> bool:
    """Whether something that Celery does once a task's own code is through has raised: ``on_failure``, an errback.

    Celery stores that as the failure of the task (the last ``except`` of ``celery.app.trace.build_tracer``, after
    ``task_postrun``), unless that it could not store anything is what it is about. Then it calls the same once more,
    and what that raises ends a solo worker; threads and greenlets drop it, and the task stays among the active ones.
    """
    from celery.exceptions import Reject

    return (
        isinstance(raised, Exception)
        and not isinstance(raised, MemoryError | Reject)
        and not storing.is_of_storing(raised)
    )


def _raised(state: str | None, retval: Any) -> BaseException | None:
    """Return what the task raised, which Celery gives as the return value."""
    if state == "RETRY":
        retval = getattr(retval, "exc", None) or retval
    return retval if isinstance(retval, BaseException) else None
