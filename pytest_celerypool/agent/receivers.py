"""Listen to Celery's signals, and find who else does."""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent.frames import Frames

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


def call_directly(signal: Any, receiver: Callable[..., None], *places: tuple[Any, str]) -> Callable[[], None]:
    """Let Celery call a receiver of a signal without the signal's own dispatch as long as nobody else listens.

    That takes a lock and makes a list of the receivers each time: seven calls, for every task.

    :param receiver: is connected, and lets nothing out that it raises.
    :param places: where Celery has the signal's ``send``: objects, each with the name of its attribute.
    :returns: a function that ends this.
    """
    send = signal.send

    def send_directly(sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        receivers = signal.receivers[:2]  # another thread may disconnect one
        if len(receivers) != 1 or receivers[0][1] is not receiver:
            found: list[tuple[Any, Any]] = send(sender, **named)
            return found
        return [(receiver, receiver(signal=signal, sender=sender, **named))]

    # Not what somebody else has put there, into the signal itself too, whose own ``send`` is one of its class.
    replaced = [
        (owner, name)
        for owner, name in places
        if getattr(owner, name, None) == send and (owner is not signal or name not in vars(signal))
    ]
    for owner, name in replaced:
        setattr(owner, name, send_directly)

    def undo() -> None:
        for owner, name in replaced:
            if getattr(owner, name) is not send_directly:
                continue  # somebody has replaced it since
            if owner is signal:
                delattr(owner, name)
            else:
                setattr(owner, name, send)

    return undo


def receivers_of(signal: Any, frames: Frames, sender: Any = None) -> list[types.FunctionType]:
    """Return the user's functions that a signal would call: of a method its function, of a decorated one the inner.

    :param sender: leave out those that are connected for another sender.
    """
    if not signal.receivers:
        return []
    found = []
    for receiver in _connected(signal) if sender is None else signal._live_receivers(sender):
        function = getattr(receiver, "__func__", receiver)
        function = getattr(function, "__wrapped__", function)
        if isinstance(function, types.FunctionType) and frames.is_user(function.__code__.co_filename):
            found.append(function)
    return found


def owners_of(signal: Any, function: types.FunctionType) -> list[Any]:
    """Return the objects of which a signal would call a method, by its function."""
    methods = [each for each in _connected(signal) if isinstance(each, types.MethodType)]
    return [each.__self__ for each in methods if each.__func__ is function]


def _connected(signal: Any) -> list[Any]:
    held = [receiver for _, receiver in list(signal.receivers)]
    return [each() if isinstance(each, weakref.ReferenceType) else each for each in held]
