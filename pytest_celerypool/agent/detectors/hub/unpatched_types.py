"""Thread locals and locks of the system's threads that tell when greenlets get in each other's way with them.

Made only of those for which the user's own code has asked the library of the pool by name
(``gevent.monkey.get_original``, ``eventlet.patcher.original``). They do what they are derived from does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent.meters import Run

#: Called with the task, the other one, what the object is, and what happened.
Misused = Callable[[Run, Run, str, str], None]
Current = Callable[[], Run | None]

_MARK = "unpatched-local"


def telling(original: Any, current: Current, misused: Misused) -> Any:
    """Return a class in place of an original one, or the original where nothing can be told of it.

    :param current: returns the task that runs.
    """
    if _named(original, "_local"):
        return _local(original, current, misused)
    # The function makes the lock of C where the module has not been told to do without.
    made = getattr(original, "__globals__", {}).get("_CRLock") if getattr(original, "__name__", "") == "RLock" else None
    for lock in (original, made):
        if _named(lock, "RLock"):
            return _recursive_lock(lock, current, misused)
    return original


def _named(cls: Any, name: str) -> bool:
    """Whether something is a class of the module _thread; eventlet loads that twice, so there are two of each."""
    return isinstance(cls, type) and cls.__module__ == "_thread" and cls.__name__ == name


def _local(base: Any, current: Current, misused: Misused) -> Any:
    writers: dict[tuple[int, str], tuple[Any, Run]] = {}

    class local(base):  # type: ignore[misc] # noqa: N801 - the name of what it stands for
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            run = current()
            if run is not None:
                writers[id(self), name] = (value, run)
                run.marks.setdefault(_MARK, {})[id(self), name] = value

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            known = writers.get((id(self), name))
            if known is not None:
                run = current()
                written, writer = known
                # It relies on what it has set itself; what it merely finds may be a cache.
                mine = {} if run is None else run.marks.get(_MARK, {})
                if run is not None and writer is not run and (id(self), name) in mine and value is written:
                    before = mine[id(self), name]
                    if before is not value and before != value:
                        how = f"it reads {name} = {value!r:.80}, set by another task, where it has set {before!r:.80}"
                        misused(run, writer, "the thread local", how)
            return value

    return local


def _recursive_lock(base: Any, current: Current, misused: Misused) -> Any:
    class RLock(base):  # type: ignore[misc]
        _holder: tuple[Run, int] | None = None

        def acquire(self, *args: Any, **kwargs: Any) -> bool:
            acquired = bool(super().acquire(*args, **kwargs))
            if acquired:
                self._enter()
            return acquired

        def __enter__(self, *args: Any) -> bool:
            return self.acquire(*args)

        def release(self) -> None:
            super().release()
            self._leave()

        def __exit__(self, *_: object) -> None:
            self.release()

        def _enter(self) -> None:
            run = current()
            if run is None:
                return
            if self._holder is None:
                self._holder = (run, 1)
                return
            holder, depth = self._holder
            self._holder = (holder, depth + 1)
            if holder is not run:
                misused(run, holder, "the lock", "it has entered a lock while another task was in it")

        def _leave(self) -> None:
            if self._holder is not None:
                holder, depth = self._holder
                self._holder = (holder, depth - 1) if depth > 1 else None

    return RLock
