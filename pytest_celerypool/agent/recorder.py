"""Write down what happens to tasks in this worker: one JSON line a record, appended to the worker's trace.

The file is opened once for appending and inherited by forked children: a single ``write`` of a line to it is
atomic, costs about 2 µs, never blocks, and what was written survives a killed process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.meters import Clocks, GreenMeter, SwitchTracer, ThreadMeter
from pytest_celerypool.agent.publishing import Publication


class Writer:
    """Appends records to the trace file at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = self._open()

    def _open(self) -> int:
        return originals.open_file(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one record of the given `kind`."""
        line = json.dumps({"e": kind, **fields}, separators=(",", ":"), default=repr).encode() + b"\n"
        try:
            originals.write(self._fd, line)
        except OSError:  # the user's code closed every descriptor, as daemons do
            self._fd = self._open()
            originals.write(self._fd, line)


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
    """Turns Celery's signals into records; its own failures are recorded and spoil no task."""

    def __init__(self, writer: Writer, *, green: bool) -> None:
        self.writer = writer
        self._clocks = Clocks()
        self._tracer = SwitchTracer(self._clocks) if green else None
        self._open: dict[Any, tuple[str, str, ThreadMeter | GreenMeter]] = {}
        self._greenlets = 0
        self._failed: set[str] = set()

    # -- connecting

    def connect(self) -> None:
        """Listen to Celery's signals for as long as the process lives."""
        from celery import signals

        for signal, handler in (
            (signals.task_received, self._on_received),
            (signals.task_prerun, self._on_prerun),
            (signals.task_postrun, self._on_postrun),
            (signals.task_failure, self._on_failure),
            (signals.task_revoked, self._on_revoked),
            (signals.task_rejected, self._on_rejected),
            (signals.task_unknown, self._on_unknown),
        ):
            signal.connect(self._guarded(handler), weak=False)
        self._watch_timeouts()

    def _guarded(self, handler: Callable[..., None]) -> Callable[..., None]:
        name = handler.__name__

        def receiver(**kwargs: Any) -> None:
            try:
                handler(**kwargs)
            except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
                self.failed(name, exc)

        return receiver

    def failed(self, where: str, exc: BaseException) -> None:
        """Record once for each place that the agent itself failed there."""
        if where not in self._failed:
            self._failed.add(where)
            self.writer.write("agent-error", where=where, error=_short(exc))

    def _watch_timeouts(self) -> None:
        """Record hard time limits: only Celery 5.7 sends ``task_failure`` for them."""
        from celery.worker.request import Request

        original = Request.on_timeout
        recorder = self

        def on_timeout(self: Any, soft: bool, timeout: float) -> Any:
            result = original(self, soft, timeout)
            if not soft:
                recorder._settle(self.id, "FAILURE", self.name, text=f"TimeLimitExceeded({timeout})")
            return result

        Request.on_timeout = on_timeout

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
            )
        except Exception as exc:  # noqa: BLE001 - the user's task goes on, the report says what failed
            self.failed("published", exc)

    def unpublished(self, publication: Publication) -> None:
        """Record that the message just announced could not be sent."""
        self.writer.write("unpub", t=time.monotonic(), id=publication.id)

    # -- signals of the worker's main process

    def _on_received(self, request: Any = None, **_: Any) -> None:
        eta = request.eta
        self.writer.write(
            "recv",
            t=time.monotonic(),
            id=request.id,
            task=request.name,
            retries=request.request_dict.get("retries") or 0,
            eta=str(eta) if eta else None,
        )

    def _on_revoked(self, request: Any = None, expired: bool = False, **_: Any) -> None:
        text = "TaskRevokedError('expired')" if expired else "TaskRevokedError('revoked')"
        name = getattr(request, "task", None) or getattr(request, "name", None)
        self._settle(request.id, "REVOKED", name, text=text)

    def _on_rejected(self, message: Any = None, **_: Any) -> None:
        task_id = (message.headers or {}).get("id")
        if task_id:
            self._settle(task_id, "REJECTED", (message.headers or {}).get("task"), text="Reject()")

    def _on_unknown(self, name: str | None = None, id: str | None = None, **_: Any) -> None:  # noqa: A002
        self.writer.write("unknown", t=time.monotonic(), id=id, task=name)

    def _on_failure(self, sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
        """A failure that no slot reports: the child was lost, or killed for its time limit."""
        running = self._open.get(self._key())
        if running is None or running[0] != task_id:
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

    def _key(self) -> Any:
        return self._tracer._getcurrent() if self._tracer is not None else originals.get_ident()

    def _slot(self) -> str:
        if self._tracer is not None:
            self._greenlets += 1
            return f"greenlet {self._greenlets}"
        from billiard.process import current_process

        index = getattr(current_process(), "index", None)
        if index is not None:
            return f"child {index}"
        import threading

        return threading.current_thread().name

    def _on_prerun(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        request = task.request
        if request.is_eager:
            return
        slot = self._slot()
        meter = self._tracer.start() if self._tracer is not None else ThreadMeter(self._clocks)
        self._open[self._key()] = (task_id, slot, meter)
        self.writer.write(
            "start",
            t=time.monotonic(),
            id=task_id,
            task=task.name,
            retries=request.retries or 0,
            args=request.argsrepr,
            kwargs=request.kwargsrepr,
            pid=os.getpid(),
            slot=slot,
            mem=meter.memory,
        )

    def _on_postrun(
        self, task_id: str = "", task: Any = None, state: str | None = None, retval: Any = None, **__: Any
    ) -> None:
        ended = time.monotonic()
        if task.request.is_eager:
            return
        running = self._open.pop(self._key(), None)
        _, slot, meter = running if running is not None else (None, None, None)
        measured: dict[str, Any] = {}
        if isinstance(meter, GreenMeter) and self._tracer is not None:
            measured = self._tracer.stop(meter)
        elif isinstance(meter, ThreadMeter):
            measured = meter.stop()
        self.writer.write(
            "end",
            t=ended,
            id=task_id,
            task=task.name,
            retries=task.request.retries or 0,
            pid=os.getpid(),
            slot=slot,
            state=state,
            exc=describe_exception(_raised(state, retval)),
            **measured,
        )


def _raised(state: str | None, retval: Any) -> BaseException | None:
    """Return what the task raised: Celery gives it as the return value, and nothing at all for an exit."""
    if state is None:
        import sys

        # The signal is sent from a ``finally`` while SystemExit, GreenletExit or a Timeout passes through.
        return sys.exc_info()[1]
    if state == "RETRY":
        retval = getattr(retval, "exc", None) or retval
    return retval if state != "SUCCESS" and isinstance(retval, BaseException) else None
