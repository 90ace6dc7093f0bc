"""Run the detectors of one worker process, and write down what they report.

A detector that raises is switched off and reported once; the task that it watched goes on.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.opening import Opening
from pytest_celerypool.agent.receivers import connect
from pytest_celerypool.agent.recorder import Recorder

#: Detectors with the method of each that is to be called.
Listeners = tuple[tuple[Detector, Callable[..., None]], ...]


class PoolFacts(NamedTuple):
    """What detectors know of the pool that runs.

    :ivar facts: the facts of :class:`pytest_celerypool.pools.Pool` by name.
    """

    name: str
    green: bool
    forks: bool
    facts: Mapping[str, Any]

    @property
    def overlaps(self) -> bool:
        """Whether tasks share a process at the same time; of a custom pool that is not known."""
        return self.green or (bool(self.facts["preempts"]) and not self.forks)


class Watch:
    """What the detectors of one worker see of it.

    :param recorder: writes the records of this worker, and calls :meth:`started` and :meth:`ended`.
    :param config: plain data: ``detectors`` (paths ``module:Class``), ``off`` (kinds), ``limits`` (kind to number),
        ``root`` (folder), ``pool`` (facts).
    :param launch: ``"subprocess"`` or ``"inprocess"``.
    :param folder: the worker's own folder, removed at the end of the run.
    :ivar app: the application whose tasks run; ``None`` until it is imported.
    :ivar pool: the :class:`PoolFacts`.
    :ivar frames: tells the user's frames.
    """

    def __init__(self, recorder: Recorder, config: Mapping[str, Any], launch: str, folder: str) -> None:
        self.recorder = recorder
        self._running, self._key = recorder.running, recorder.key
        self.app: Any = None
        self.launch = launch
        self.folder = folder
        facts = config["pool"]
        self.pool = PoolFacts(facts["name"], facts["green"], facts["forks"], facts)
        self.frames = Frames(config["root"])
        self._off = frozenset(config["off"])
        self._limits: dict[str, float] = dict(config["limits"])
        self._detectors: list[Detector] = []
        self._starters: Listeners = ()
        self._enders: Listeners = ()
        #: Of those two what wants to hear of a task, by its name.
        self._of_task: dict[str, tuple[Listeners, Listeners]] = {}
        self._marked: Listeners = ()
        self._failers: Listeners = ()
        #: What wants to hear of every result, and that with what wants to hear of those of a class, by that.
        self._of_any_result: Listeners = ()
        self._of_result: dict[type, Listeners] = {}
        self._importers: Listeners = ()
        #: How many modules there were when those were told.
        self._modules = 0
        self._openers: Listeners = ()
        #: How many executions have begun in this process.
        self.starts = 0
        self._disconnect: Callable[[], None] = lambda: None
        self._load(config["detectors"])

    def _load(self, paths: Iterable[str]) -> None:
        for path in paths:
            module, _, name = path.partition(":")
            try:
                cls: type[Detector] = getattr(importlib.import_module(module), name)
                if not all(kind.name in self._off for kind in cls.kinds) and cls.wanted(self):
                    self._detectors.append(cls(self))
            except Exception as exc:  # noqa: BLE001 - somebody else's file may raise anything; the worker starts
                self.recorder.failed(f"detector {path}", exc)

    # -- life

    def install(self) -> None:
        """Begin to watch; under the launch ``subprocess`` before anything of the user's is imported."""
        from celery import signals

        self._tell("install")
        self.bind()
        self._opening = Opening(self._opened)
        if self._openers:
            self._opening.install()
        self._disconnect = connect(
            (signals.worker_process_init, lambda **_: self._tell("forked")),
            (signals.worker_ready, self._on_ready),
            (signals.worker_shutting_down, lambda **_: self.stopping()),
        )

    def begin(self, app: Any) -> None:
        """Go on: the application is imported."""
        self.app = app
        self._tell("begin")
        self.bind()
        self.recorder.watch = self

    def _opened(self, file: Any, path: Any, mode: Any) -> None:
        run = self._running.get(self._key())  # as current(), for every file that is opened
        if run is not None and not run.over:
            self._call(self._openers, run, file, path, mode)

    def returned(self, run: Run, result: Any) -> None:
        """Tell the detectors what a task has returned, before it is stored."""
        try:
            listeners = self._of_result.get(type(result), self._of_any_result)
        except TypeError:  # a class of classes that cannot be hashed
            listeners = self._of_any_result
        for detector, tell in listeners:
            try:
                tell(run, result)
            except Exception as exc:  # noqa: BLE001 - a detector spoils nothing
                self.switch_off(detector, exc)

    def stopping(self) -> None:
        """Tell the detectors that the worker begins to shut down; Celery sends no signal of an embedded one's end."""
        self._tell("stopping")

    def remove(self) -> None:
        """End, and put everything back."""
        self.recorder.watch = None
        self._opening.remove()
        self._disconnect()
        # The last first: two that replace the same function take it back in the opposite order.
        self._tell("remove", last_first=True)
        for detector in self._detectors:
            detector.active = False  # what it has replaced may stay below what another worker's has

    def _on_ready(self, sender: Any = None, **_: Any) -> None:
        if self._concerns(sender):
            self.ready(sender.controller)

    def ready(self, controller: Any) -> None:
        """Tell the detectors that the worker consumes; Celery sends no signal of an embedded one's beginning."""
        self._tell("ready", controller)

    def _tell(self, method: str, *args: Any, last_first: bool = False) -> None:
        detectors = self._detectors[:: -1 if last_first else 1]
        self._call(tuple((each, getattr(each, method)) for each in detectors), *args)

    def _concerns(self, consumer: Any) -> bool:
        return getattr(consumer, "app", self.app) is self.app

    def bind(self) -> None:
        """Find out which detectors want to hear what: what is called for every task has to be little."""
        self._starters = self._listeners("started")
        enders = self._listeners("ended")
        self._enders = tuple(pair for pair in enders if not pair[0].mark)
        self._marked = tuple(pair for pair in enders if pair[0].mark)
        self._failers = self._listeners("failed")
        self._openers = self._listeners("opened")
        self._importers = self._listeners("imported")
        self._of_task = {}
        self._bind_results(self._listeners("returned"))

    def forget(self, task: str) -> None:
        """Find out anew which detectors want to hear of a task; to be called when one begins to pass over it."""
        self._of_task.pop(task, None)

    def _bind_task(self, task: str) -> tuple[Listeners, Listeners]:
        known = self._of_task  # if another thread binds meanwhile, what is found here is of before
        starters, enders = (
            tuple(pair for pair in listeners if (task, method) not in pair[0].passed)
            for listeners, method in ((self._starters, "started"), (self._enders, "ended"))
        )
        known[task] = starters, enders
        return starters, enders

    def _bind_results(self, listeners: Listeners) -> None:
        classes = {cls for detector, _ in listeners for cls in detector.results or ()}
        self._of_any_result = tuple(pair for pair in listeners if pair[0].results is None)
        self._of_result = {
            cls: tuple(pair for pair in listeners if pair[0].results is None or cls in pair[0].results)
            for cls in classes
        }

    def _imported(self) -> None:
        modules = len(sys.modules)
        self._call(self._importers)
        self._modules = modules

    def _listeners(self, method: str) -> Listeners:
        return tuple(
            (one, getattr(one, method))
            for one in self._detectors
            if getattr(type(one), method) is not getattr(Detector, method) and method not in one.resting
        )

    def started(self, run: Run) -> None:
        """Tell the detectors that a task begins in this slot."""
        if len(sys.modules) != self._modules:
            self._imported()
        self.starts += 1
        run.number = self.starts if len(self.recorder.running) == 1 else -self.starts
        task = run.task.name
        # As _call() does; here and where tasks return and end it would cost as much again as the detectors mostly do.
        for detector, tell in (self._of_task.get(task) or self._bind_task(task))[0]:
            try:
                tell(run)
            except Exception as exc:  # noqa: BLE001 - a detector spoils nothing
                self.switch_off(detector, exc)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Tell the detectors that a task leaves its slot."""
        if len(sys.modules) != self._modules:
            self._imported()
        task = run.task.name
        for detector, tell in (self._of_task.get(task) or self._bind_task(task))[1]:
            try:
                tell(run, state, exc)
            except Exception as error:  # noqa: BLE001 - a detector spoils nothing
                self.switch_off(detector, error)
        marks = run.marks
        if marks:
            for pair in self._marked:
                if pair[0].mark in marks:
                    self._call((pair,), run, state, exc)
        if state != "SUCCESS":
            self._call(self._failers, run, state, exc)

    def _call(self, listeners: Listeners, *args: Any) -> None:
        for detector, tell in listeners:
            try:
                tell(*args)
            except Exception as exc:  # noqa: BLE001 - a detector spoils nothing
                self.switch_off(detector, exc)

    def overlapped(self, run: Run) -> bool:
        """Whether other tasks ran in this process between the beginning of a task and now."""
        return run.number != self.starts

    def guarded(self, detector: Detector, callback: Callable[..., None]) -> Callable[..., None]:
        """Return a function that calls `callback`, and switches the detector off if it raises."""

        def call(*args: Any, **kwargs: Any) -> None:
            if detector.active:
                try:
                    callback(*args, **kwargs)
                except Exception as exc:  # noqa: BLE001 - a detector spoils nothing
                    self.switch_off(detector, exc)

        return call

    def switch_off(self, detector: Detector, exc: BaseException) -> None:
        """End a detector that raised, and have the report say so."""
        if detector not in self._detectors:
            return
        detector.active = False
        self._detectors.remove(detector)
        self.bind()
        self.recorder.failed(f"detector {type(detector).__name__}, switched off", exc)
        try:
            detector.remove()
        except Exception as error:  # noqa: BLE001 - it failed already
            self.recorder.failed(f"end of detector {type(detector).__name__}", error)

    # -- what detectors ask

    def limit(self, kind: str) -> float:
        """Return the threshold of a kind that has one, in the unit of its declaration."""
        return self._limits[kind]

    def on(self, kind: str) -> bool:
        """Whether findings of a kind are wanted at all."""
        return kind not in self._off

    def current(self) -> Run | None:
        """Return the task whose code runs in the current slot: this thread, or this greenlet of a green pool."""
        run = self._running.get(self._key())
        return None if run is None or run.over else run

    def running(self) -> list[Run]:
        """Return the tasks that run in this process."""
        return list(self.recorder.running.values())

    # -- what detectors tell

    def report(
        self,
        kind: str,
        run: Run | None,
        message: str,
        evidence: Iterable[str],
        remedy: str,
        *,
        key: str = "",
        task: str | None = None,
        others: Iterable[Run] = (),
    ) -> None:
        """Write a finding down.

        :param kind: one of the kinds that the detector declares.
        :param run: the task that did it, if it is known.
        :param message: one sentence: what happened, and what it does to the user under this pool.
        :param evidence: lines: the user's frame first, then values, ids, times.
        :param remedy: one sentence: what to do.
        :param key: tells findings of one kind and task apart, of which each is reported once; by default the first
            line of the evidence does.
        :param task: the name of the task where there is no `run`.
        :param others: tasks that were struck too.
        """
        if kind in self._off:
            return
        lines = list(evidence)
        self.recorder.writer.write(
            "finding",
            t=time.monotonic(),
            kind=kind,
            task=run.task.name if run is not None else task,
            id=None if run is None else run.id,
            pid=os.getpid(),
            message=message,
            evidence=lines,
            remedy=remedy,
            key=key or (lines[0] if lines else message),
            others=[other.id for other in others],
        )
