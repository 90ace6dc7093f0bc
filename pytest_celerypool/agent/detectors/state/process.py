"""State of the whole process that a task changes: other tasks of the process share it, and the next ones get it.

Nothing is polled: the functions that change such state are replaced, and ask which task of the pool calls them. What
the test's own thread, Celery or a library does on its own account is nobody's business here. State of one slot, such as
context variables, is watched in :mod:`~pytest_celerypool.agent.detectors.state.slot`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.state import of_modules as state_of_modules
from pytest_celerypool.agent.detectors.state import of_system as state_of_system
from pytest_celerypool.agent.detectors.state.assigned import Assigned
from pytest_celerypool.agent.detectors.state.changes import CHANGED, LEFT, Subject
from pytest_celerypool.agent.detectors.state.ledger import Ledger
from pytest_celerypool.agent.detectors.state.mutator import Mutator
from pytest_celerypool.agent.frames import TRACER

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Where Celery calls the receivers of its signals.
_DISPATCHER = os.path.join("celery", "utils", "dispatch", "signal.py")


class State(Detector):
    """Watches the functions that change state of the process."""

    kinds = (CHANGED, LEFT)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.ledger = Ledger(watch, self.heed_all)
        self._made: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._passing = _passing_files()
        self._replaced: dict[int, Any] = {}
        self._path: WatchedPath | None = None
        self._assigned = Assigned(watch, self.ledger) if watch.launch == "subprocess" else None
        self.resting.add("returned")

    # -- life

    def install(self) -> None:
        """Replace the functions before the user's modules import them by name."""
        self.after(logging.Logger, "__init__", self._on_logger)
        self._watch_readers()
        self._replace([*state_of_system.mutators(), *state_of_modules.mutators(self._is_shared)])

    def begin(self) -> None:
        """Replace those of what the application has imported."""
        helpers = (
            "celery.utils.collections",
            "django.utils.translation",
            "django.utils.timezone",
            "django.test.utils",
            "gettext",
            "cProfile",
            "kombu.serialization",
        )
        self._passing |= {str(sys.modules[name].__file__) for name in helpers if name in sys.modules}
        self._replace(state_of_modules.mutators_of_imported())
        self._replace_imported()
        self._watch_path()

    def forked(self) -> None:
        """Forget what the parent saw."""
        self.ledger.clear()
        if self._assigned is not None:
            self._assigned.forked()

    def started(self, run: Run) -> None:
        """A task begins."""
        self.ledger.started(run)
        if self._assigned is not None:
            if self._assigned.started(run):
                self.heed_all()
            if "returned" in self.resting and self._assigned.replaces(run.task.name):
                self.listen("returned")
        if self._sees_nothing():
            self.pass_over(run.task.name, "started", "ended")
            if not self._sees_nothing():  # another thread heeded all in between
                self.heed_all()

    def _sees_nothing(self) -> bool:
        return self.ledger.calm and not (self._assigned and self._assigned.compares)

    def returned(self, run: Run, result: Any) -> None:
        """A task's own code is through."""
        if self._assigned is not None:
            self._assigned.returned(run)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """A task ends."""
        self.ledger.ended(run)
        if self._assigned is not None:
            self._assigned.ended(run)

    def stopping(self) -> None:
        """Say what was left beside tasks that go on."""
        self.ledger.flush()

    def remove(self) -> None:
        """Put the functions and the list of paths back."""
        if self._path is not None and sys.path is self._path:
            self._path.original[:] = self._path
            sys.path = self._path.original
        self._path = None
        super().remove()

    # -- replacing

    def _replace(self, found: Iterable[Mutator]) -> None:
        for mutator in found:
            original = vars(mutator.owner).get(mutator.name, getattr(mutator.owner, mutator.name, None))
            if original is not None:
                replacement = self._watched(original, mutator)
                self._replaced[id(original)] = original, replacement
                self.patch(mutator.owner, mutator.name, replacement)

    def _replace_imported(self) -> None:
        """Replace the functions in the user's modules that have imported them by name already."""
        for module in list(sys.modules.values()):
            filename = getattr(module, "__file__", None)
            if isinstance(filename, str) and self.watch.frames.is_user(filename):
                for name, value in list(vars(module).items()):
                    original, replacement = self._replaced.get(id(value), (None, None))
                    if original is not None and value is original:
                        self.patch(module, name, replacement)

    def _watch_readers(self) -> None:
        """Hear who reads a variable of the environment, or hands all of them on to a program, while one is changed."""
        import subprocess

        ledger, original = self.ledger, os._Environ.__getitem__

        def reads(key: Any, frame: FrameType) -> None:
            run = self.watch.current()
            # Who goes through all of them mostly looks for others.
            if run is not None and frame.f_code.co_name != "__iter__":
                ledger.read(run, [("environ", os.fsdecode(key))])

        guarded = self.watch.guarded(self, reads)

        @functools.wraps(original)
        def get(environ: Any, key: Any) -> Any:
            if ledger.active:
                guarded(key, sys._getframe(1))
            return original(environ, key)

        def starts(*_: Any, env: Any = None, **__: Any) -> None:
            run = self.watch.current() if ledger.active and env is None else None
            if run is not None:
                ledger.read(run, list(ledger.active))

        self.patch(os._Environ, "__getitem__", get)
        self.before(subprocess.Popen, "__init__", starts)
        self.before(os, "system", starts)

    def _watched(self, function: Callable[..., Any], mutator: Mutator) -> Callable[..., Any]:
        current, ledger = self.watch.current, self.ledger
        look, tell = self.watch.guarded(self, self._look), self.watch.guarded(self, self._tell)

        @functools.wraps(function)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            run = current()
            if run is None and not ledger.active:
                return function(*args, **kwargs)
            seen: list[Any] = []
            look(seen, run, sys._getframe(1), mutator, args, kwargs)
            result = function(*args, **kwargs)
            if seen:
                tell(seen, result)
            return result

        return replacement

    def _look(
        self,
        seen: list[Any],
        run: Run | None,
        frame: FrameType,
        mutator: Mutator,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Read what a call is about to change; puts nothing into `seen` if it is of no interest."""
        author = None if run is None else self.author(frame)
        if (author is None and not self.ledger.active) or (mutator.direct and author is not frame):
            return
        only_back = author is None or _is_mocks_own(frame)
        for subject, read in mutator.items(*args, **kwargs):
            if only_back and subject.key not in self.ledger.active:
                continue
            seen.append((subject, read, None if mutator.result else read(), run, author))
        if seen:
            seen.append(args if mutator.result else None)

    def _tell(self, seen: list[Any], result: Any) -> None:
        """Tell the ledger what a call has changed."""
        args = seen.pop()
        for subject, read, old, run, author in seen:
            # The umask cannot be read without setting it.
            values = (old, read()) if args is None else (result, args[0])
            self.ledger.changed(subject, *values, run if author is not None else None, author)

    # -- who did it

    def author(self, frame: FrameType | None) -> FrameType | None:
        """Return the user's frame that calls from `frame`, directly or through a helper of the standard library.

        ``None`` if a library does it on its own account, or if it is the initialisation of a module, or a receiver of
        one of Celery's signals: that puts back in another what it sets in one.
        """
        frames = self.watch.frames
        while frame is not None and not frames.is_user(frame.f_code.co_filename):
            if frame.f_code.co_filename not in self._passing:
                return None
            frame = frame.f_back
        outer = frame
        while outer is not None:
            code = outer.f_code
            if code.co_filename.endswith(TRACER):
                return frame
            if code.co_name == "<module>" or code.co_filename.endswith(_DISPATCHER):
                return None
            outer = outer.f_back
        return None

    # -- loggers

    def _on_logger(self, _result: None, logger: Any, *_: Any, **__: Any) -> None:
        run = self.watch.current()
        if run is not None:
            self._made[logger] = run.id

    def _is_shared(self, logger: Any) -> bool:
        """Whether a logger existed before the current task: a task may do to its own what it likes."""
        run = self.watch.current()
        return run is None or self._made.get(logger) != run.id

    # -- sys.path

    def _watch_path(self) -> None:
        if type(sys.path) is list:
            told = self.watch.guarded(self, self._on_path)
            self._path = WatchedPath(sys.path, lambda *args: told(*args))
            sys.path = self._path

    def _on_path(self, before: tuple[Any, ...], after: tuple[Any, ...], frame: FrameType) -> None:
        run = self.watch.current()
        if run is None and not self.ledger.active:
            return
        author = None if run is None else self.author(frame)
        for entry in {*before} ^ {*after}:
            subject = Subject(
                ("sys.path", entry),
                f"sys.path (entry {entry!r})",
                "Load the file itself: importlib.util.spec_from_file_location(unique_name, path).",
                show=lambda value: "present" if value else "absent",
                group="sys.path",
            )
            self.ledger.changed(subject, entry in before, entry in after, run if author is not None else None, author)


class WatchedPath(list[Any]):
    """``sys.path`` that tells who changes it.

    :param original: the list that it stands for.
    :param told: called with the entries before and after, and the frame that changed it.
    """

    def __init__(self, original: list[Any], told: Callable[..., None]) -> None:
        super().__init__(original)
        self.original = original
        self._told = told

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _telling(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    @functools.wraps(method)
    def replacement(self: WatchedPath, *args: Any, **kwargs: Any) -> Any:
        before = tuple(self)
        result = method(self, *args, **kwargs)
        after = tuple(self)
        if before != after:
            self._told(before, after, sys._getframe(1))
        return result

    return replacement


for _name in ("insert", "append", "extend", "remove", "pop", "clear", "__setitem__", "__delitem__", "__iadd__"):
    setattr(WatchedPath, _name, _telling(_name))


def _is_mocks_own(frame: FrameType) -> bool:
    """Whether ``mock.patch.dict`` puts a whole mapping back: it clears all of it, and sets all of it again."""
    outer: FrameType | None = frame
    for _ in range(5):
        if outer is None:
            return False
        code = outer.f_code
        if code.co_name in ("_clear_dict", "_unpatch_dict") and code.co_filename.endswith("mock.py"):
            return True
        outer = outer.f_back
    return False


def _passing_files() -> set[str]:
    """Return the files of helpers through which a user changes state himself."""
    import _collections_abc
    import random

    library = os.path.dirname(contextlib.__file__)
    functions = (os.makedirs, _collections_abc.MutableMapping.update, contextlib.suppress.__exit__)
    files = {function.__code__.co_filename for function in functions}
    files |= {warnings.__file__, logging.__file__, random.__file__, contextlib.__file__}
    files |= {os.path.join(library, *parts) for parts in (("unittest", "mock.py"), ("logging", "config.py"))}
    files |= {
        os.path.join(library, name)
        for name in ("os.py", "shutil.py", "_collections_abc.py", "_py_warnings.py", "locale.py")
    }
    return files
