"""Files named after the process or the thread, which the tasks of one process have in common.

Only names that hold the process id, or the name of the thread, are looked at: whoever makes such a name believes that
nobody else has it. Appending is left alone, a log of each process is right.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import weakref
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.notes import Notes
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import Watch

#: What a name of a thread must at least have to be looked for in a path.
_SHORTEST_NAME = 5


class Written:
    """A file that a task has opened for writing, or a folder that it has made.

    :ivar place: the user's line.
    :ivar by: the task that took it over while this one still ran, and its line.
    """

    __slots__ = ("by", "file", "inode", "path", "place", "run", "stack")

    def __init__(self, run: Run, path: str, inode: int, stack: list[str]) -> None:
        self.run, self.path, self.inode, self.stack = run, path, inode, stack
        self.place = stack[0] if stack else ""
        self.file: Callable[[], Any] = lambda: None
        self.by: tuple[Run, str] | None = None


class SharedNames(Detector):
    """Watches what tasks write under a name that the whole process has."""

    mark = "shared-name"
    kinds = (Kind("shared-name", "fail", "tasks of one process use the same file, named after the process or thread"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._pid = str(os.getpid())
        self._written: dict[str, dict[str, Written]] = {}
        self._of_children: OfChildren | None = None
        self._pattern = re.compile(rf"(?<!\d){self._pid}(?!\d)")

    def begin(self) -> None:
        """Watch the functions that rename and remove files, and make folders."""
        self.after(os, "mkdir", self._made, in_task=True)
        for name in ("replace", "rename", "remove", "unlink"):
            self.before(os, name, self._uses, in_task=True)
        self.before(shutil, "rmtree", self._uses, in_task=True)

    def forked(self) -> None:
        """Go on in a child, whose process id is another, and whose thread has the name and number of the parent's."""
        self._pid, self._written = str(os.getpid()), {}
        self._pattern = re.compile(rf"(?<!\d){self._pid}(?!\d)")
        self._of_children = OfChildren(self.watch)

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look at what the task found missing, or there already."""
        if isinstance(exc, FileExistsError | FileNotFoundError):
            self._missed(run, exc)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Forget what the task wrote."""
        for path, holders in list(self._written.items()):
            if holders.pop(run.id, None) is not None and not holders:
                self._written.pop(path, None)

    def _named(self, path: Any) -> str | None:
        """Return a path as text if it is named after the process or the thread."""
        text = _text(path)
        if text is None:
            return None
        if self._pid in text and self._pattern.search(text):
            return os.path.abspath(text)
        names = (threading.current_thread().name, _process_name())
        return os.path.abspath(text) if any(len(name) >= _SHORTEST_NAME and name in text for name in names) else None

    # -- what a task does

    def opened(self, run: Run, file: Any, path: Any, mode: Any) -> None:
        """A task has opened a file."""
        if self._of_children is not None:
            self._of_children.opened(run, path, mode)
        if not isinstance(mode, str) or (name := self._named(path)) is None or "a" in mode:
            return
        if "w" not in mode and "x" not in mode and "+" not in mode:
            self._using(run, name)
            return
        written = self._take(run, name, os.fstat(file.fileno()).st_ino)
        written.file = weakref.ref(file)

    def _made(self, _: None, path: Any, *__: Any, **___: Any) -> None:
        run = self.watch.current()
        if run is not None and (name := self._named(path)) is not None:
            self._take(run, name, 0)

    def _take(self, run: Run, path: str, inode: int) -> Written:
        """Note that a task writes a file; tell if another task has it open."""
        run.marks[self.mark] = True
        frame = self.watch.frames.user_frame()
        holders = self._written.setdefault(path, {})
        mine = Written(run, path, inode, self.watch.frames.stack(frame))
        for other in list(holders.values()):
            if other.run is not run and other.inode == inode and other.by is None:
                other.by = run, mine.place
                file = other.file()
                if file is not None and not file.closed:
                    self._report(other, "still has it open")
        holders[run.id] = mine
        return mine

    def _uses(self, path: Any, *_: Any, **__: Any) -> None:
        run = self.watch.current()
        if run is not None and (name := self._named(path)) is not None:
            self._using(run, name)
            self._removes(run, name)

    def _using(self, run: Run, path: str) -> None:
        """A task uses a file that it has written: tell if another has written it since."""
        mine = self._written.get(path, {}).get(run.id)
        if mine is not None and mine.by is not None:
            self._report(mine, f"uses it at {self.watch.frames.place(self.watch.frames.user_frame())}")

    def _removes(self, run: Run, folder: str) -> None:
        """A task removes a folder: tell if a file in it is another's."""
        for path, holders in list(self._written.items()):
            if path.startswith(folder + os.sep):
                for other in list(holders.values()):
                    if other.run is not run:
                        place = self.watch.frames.place(self.watch.frames.user_frame())
                        other.by = run, place
                        self._report(other, f"had its file in there when it was removed at {place}")

    def _missed(self, run: Run, exc: OSError) -> None:
        name = self._named(exc.filename)
        if name is None:
            return
        others = [each for each in self.watch.running() if each is not run and each.task.name == run.task.name]
        holders = [each for each in self._written.get(name, {}).values() if each.run is not run]
        if not others and not holders:
            return
        other = holders[0].run if holders else others[0]
        places = self.watch.frames.raised_places(exc) or [self.watch.frames.place(None)]
        there = "is there already" if isinstance(exc, FileExistsError) else "is gone"
        self._tell(run, other, name, f"{there}: {type(exc).__name__}", places[:1])

    # -- verdict

    def _report(self, written: Written, what: str) -> None:
        other, place = written.by or (written.run, "")
        written.by = None
        self._tell(
            written.run,
            other,
            written.path,
            f"was opened for writing by another task while this one {what.split(' at ')[0]}",
            [written.place, f"taken by {other.task.name} ({other.id}) at {place}", what, *written.stack],
        )

    def _tell(self, run: Run, other: Run, path: str, what: str, evidence: list[str]) -> None:
        name = os.path.basename(path)
        named = "name of the process" if _process_name() in path else "name of the thread"
        if self._pattern.search(path):
            named = "process id"
        self.watch.report(
            "shared-name",
            run,
            f"{name} {what}; it is named after the {named} ({self._pid}), which all tasks of this process have in "
            f"common under {self.watch.pool.name}: one task gets the other's data",
            [*evidence, f"path {path}", f"tasks {run.id} and {other.id} run in process {self._pid}"],
            "name it after the task (self.request.id), or let tempfile make the name",
            key=evidence[0],
            others=[other],
        )


def _text(path: Any) -> str | None:
    """Return a path as text; ``None`` for a number of a descriptor, and for one of bytes."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    return text if isinstance(text, str) else None


def _process_name() -> str:
    """Return the name that billiard gives this process: ``MainProcess``, but in a child of prefork."""
    from billiard.process import current_process

    return str(current_process().name)


class OfChildren:
    """Files named after the thread, which the children of prefork have in common: a fork keeps its name and number.

    What a child writes under such a name it notes for the others.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._notes = Notes(watch.folder, "thread-names")
        #: What was noted so far, own notes included.
        self._known: list[list[Any]] = []
        self._noted: set[str] = set()

    def opened(self, run: Run, path: Any, mode: Any) -> None:
        """A task has opened a file: tell if another child has written one of this name."""
        path = _text(path)
        if not isinstance(mode, str) or path is None or not set(mode) & set("wax+"):
            return
        thread = threading.current_thread()
        identity = str(thread.ident) if str(thread.ident) in path else thread.name
        if identity not in path or len(identity) < _SHORTEST_NAME:
            return
        path = os.path.abspath(path)
        if path in self._noted:
            return
        self._noted.add(path)
        place = self._watch.frames.place(self._watch.frames.user_frame())
        self._notes.add([[os.getpid(), path, f"{run.task.name} ({run.id})", place]])
        self._known += self._notes.news()
        for pid, other, who, where in self._known:
            if other == path and pid != os.getpid():
                self._report(run, path, identity, place, f"process {pid} ran {who}, which wrote it at {where}")
                return

    def _report(self, run: Run, path: str, identity: str, place: str, other: str) -> None:
        self._watch.report(
            "shared-name",
            run,
            f"{os.path.basename(path)} is written by tasks of two children; it is named after the thread ({identity}), "
            "and under prefork a fork keeps its name and number, so that all children have the same",
            [place, other, f"path {path}", f"task {run.id} runs in process {os.getpid()}"],
            "name it after the task (self.request.id), or let tempfile make the name",
            key=place,
        )
