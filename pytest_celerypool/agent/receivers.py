"""Listen to Celery's signals."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

_numbers = itertools.count(1)


def connect(*receivers: tuple[Any, Callable[..., None]]) -> Callable[[], None]:
    """Connect pairs of a signal and its receiver; returns a function that ends this.

    Before 5.7 Celery takes a method for the same receiver whatever object it is of, and drops the second. So each has
    an id of its own.
    """
    connected = [(signal, receiver, f"celerypool-{next(_numbers)}") for signal, receiver in receivers]
    for signal, receiver, uid in connected:
        signal.connect(receiver, weak=False, dispatch_uid=uid)

    def disconnect() -> None:
        for signal, receiver, uid in connected:
            signal.disconnect(receiver, dispatch_uid=uid)

    return disconnect
