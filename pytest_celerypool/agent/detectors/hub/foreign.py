"""Hubs of the other library in a worker of a green pool: gevent's under eventlet, eventlet's under gevent.

Each library waits in a hub of its own, one for each thread. Two of them in one thread know nothing of each other: while
one waits, the other does not run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.hub.samples import Sample, sample

#: By pool the other library, with the module and the class of its hubs.
_OTHERS = {"gevent": ("eventlet", "eventlet.hubs.hub", "BaseHub"), "eventlet": ("gevent", "gevent.hub", "Hub")}


class ForeignHub(NamedTuple):
    """A hub of the other library, which a task was the first to need.

    :ivar greenlet: in which it waits.
    :ivar library: its name.
    :ivar seen: where it was needed.
    """

    greenlet: Any
    library: str
    seen: Sample


class ForeignHubs:
    """Sees the hubs of the other library that tasks make.

    :param detector: on whose behalf.
    :param made: is called with each.
    """

    def __init__(self, detector: Detector, made: Callable[[ForeignHub], None]) -> None:
        self._detector, self._made = detector, made
        self._library, self._module, self._name = _OTHERS.get(detector.watch.pool.name, ("", "", ""))

    def look(self) -> None:
        """Begin, once the library is there."""
        if self._module in sys.modules:
            owner = getattr(sys.modules[self._module], self._name)
            self._detector.after(owner, "__init__", self._on_made, in_task=True)
            self._module = ""

    def _on_made(self, _: None, hub: Any, *__: Any, **___: Any) -> None:
        seen = sample(sys._getframe(), self._detector.watch.frames)
        self._made(ForeignHub(getattr(hub, "greenlet", hub), self._library, seen))
