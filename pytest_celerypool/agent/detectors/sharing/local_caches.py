"""Django's cache where it is one of the process, as it is by default: the children of prefork have one each.

``LocMemCache`` keeps a dictionary in each process, so that what a task puts there is found by the tasks of its own
child alone: https://docs.djangoproject.com/en/stable/topics/cache/#local-memory-caching. Who makes again what is
missing does not mind.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.notes import Notes

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_CACHES, _MODULE = "django.core.cache", "django.core.cache.backends.locmem"
_MISSED, _TWICE = "cache-differs", "state-per-child"
_REMEDY = "Use a cache that processes share (RedisCache, memcached, the database) in CACHES."


class Entry(NamedTuple):
    """What a child has put into its cache, or taken out.

    :ivar expires: when it is there no longer, in seconds of ``time.time()``; ``None`` if it stays, 0 if it is gone.
    """

    pid: int
    key: str
    expires: float | None
    task: str
    run: str
    place: str

    @property
    def there(self) -> bool:
        """Whether it should be there still."""
        return self.expires is None or self.expires > time.time()


class LocalCaches(Detector):
    """Compares what the children of prefork put into such a cache with what tasks of others look for there."""

    mark = "local-cache"
    kinds = (
        Kind(_MISSED, "fail", "a task needs what another one left in a child that is not its own"),
        Kind(_TWICE, "warn", "a check, count or limit that every child keeps for itself"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._notes = Notes(watch.folder, "local-caches")
        #: By key the last entry of each process.
        self._entries: dict[str, dict[int, Entry]] = {}
        self._hears = False
        self.rest("ended")

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where slots are processes."""
        return watch.pool.forks

    def forked(self) -> None:
        """Go on in a child."""
        self._notes.forked()

    def begin(self) -> None:
        """See the cache if the application has imported it."""
        self.imported()

    def imported(self) -> None:
        """See the cache once a task has imported what makes it."""
        if self._hears or _CACHES not in sys.modules:
            return
        self._hears = True
        self.listen("ended")
        # Django loads it with the first use of a cache, in the middle of a task.
        cache: Any = importlib.import_module(_MODULE).LocMemCache
        self.after(cache, "get", self._got, in_task=True)
        self.after(cache, "add", self._added, in_task=True)
        for name in ("set", "incr", "delete"):
            self.after(cache, name, self._changed, in_task=True)

    # -- what a task does

    def _got(self, _: Any, cache: Any, key: Any, default: Any = None, version: Any = None) -> None:
        run = self.watch.current()
        full = cache.make_key(key, version=version)
        if run is not None and full not in cache._cache and (other := self._of_others(full)) is not None:
            missed: dict[str, tuple[Entry, list[str]]] = run.marks.setdefault(self.mark, {})
            missed.setdefault(full, (other, self._places()))

    def _added(self, added: bool, cache: Any, key: Any, *args: Any, version: Any = None, **kwargs: Any) -> None:
        run = self.watch.current()
        full = cache.make_key(key, version=version)
        if not added or run is None:
            return
        other = self._of_others(full)
        # Who has looked for it before fills a cache (``get_or_set``); who has not relies on being the only one.
        if other is not None and full not in run.marks.get(self.mark, {}):
            self._tell(_TWICE, run, full, other, self._places(), "was added to Django's cache, which is to happen once")
        self._changed(added, cache, key, *args, version=version, **kwargs)

    def _changed(self, _: Any, cache: Any, key: Any, *__: Any, version: Any = None, **___: Any) -> None:
        run = self.watch.current()
        if run is None:
            return
        full = cache.make_key(key, version=version)
        run.marks.get(self.mark, {}).pop(full, None)  # it was made anew: a cache as it should be
        expires = cache._expire_info.get(full, 0.0)
        self._notes.add([Entry(os.getpid(), full, expires, run.task.name, run.id, self._places()[0])])

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Tell of what the task has missed and not made."""
        for full, (other, places) in run.marks.pop(self.mark, {}).items():
            self._tell(_MISSED, run, full, other, places, "is not in Django's cache in this child")

    def _places(self) -> list[str]:
        """Return where the task is, the user's line first; a task of a library has none."""
        frames = self.watch.frames
        return frames.stack(frames.user_frame(), 4) or [frames.place(None)]

    # -- what other children did

    def _of_others(self, key: str) -> Entry | None:
        """Return what another child has put there last, if that should be there still."""
        for note in self._notes.news():
            entry = Entry(*note)
            self._entries.setdefault(entry.key, {})[entry.pid] = entry
        pid = os.getpid()
        others = [entry for entry in self._entries.get(key, {}).values() if entry.pid != pid and entry.there]
        return others[-1] if others else None

    def remove(self) -> None:
        """End, and close the file."""
        self._notes.close()
        super().remove()

    def _tell(self, kind: str, run: Run, key: str, other: Entry, places: list[str], what: str) -> None:
        self.watch.report(
            kind,
            run,
            f"{key!r} {what}, and child {other.pid} has it there: LocMemCache, which Django takes by default, is a "
            "dictionary of the process, and under prefork every child has its own",
            [
                places[0],
                *(f"  called from {place}" for place in places[1:]),
                f"process {other.pid} ran {other.task} ({other.run}), which put it there at {other.place}",
                f"process {os.getpid()} runs {run.task.name} ({run.id})",
            ],
            _REMEDY,
            key=places[0],
        )
