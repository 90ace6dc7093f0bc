"""See the remote control commands that reach a worker: what they change in it would reach the next test.

Celery tells of them by no signal. They may come from a test, from a task, or from another application.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.replacing import Replacement

if TYPE_CHECKING:
    from pytest_celerypool.agent.recorder import Recorder

#: Commands that are not among those which only look, and change nothing that another test could notice: the ids of
#: tasks are used once, and a slot that ``terminate`` ends is noticed by its task.
_HARMLESS = frozenset({"revoke", "terminate", "heartbeat", "election"})

#: What ``rate_limit`` and ``time_limit`` set on a task of the application.
_LIMITS = ("rate_limit", "time_limit", "soft_time_limit")

_MISSING: Any = object()


def unchanging() -> list[str]:
    """Return the names of the commands that leave a worker as it was, those of the application's own included."""
    from celery.worker.control import Panel

    looking = {name for name, about in Panel.meta.items() if about.type == "inspect"}
    aliases = {Panel.meta[name].alias for name in looking} - {None}
    return sorted(looking | aliases | _HARMLESS)


def watch(recorder: Recorder) -> Callable[[], None]:
    """Record the commands that may have changed a worker, when they have; an answer is sent only after that.

    :returns: a function that ends this, and undoes what they changed that outlives a worker in the test's process.
    """
    from kombu.pidbox import Node

    original = Node.handle
    watching, undo = True, ExitStack()

    def handle(self: Any, method: str, arguments: Any = None) -> Any:
        app = getattr(self.state, "app", None)
        if not watching or recorder.foreign(app) or method not in self.handlers or method in unchanging():
            return original(self, method, arguments)
        arguments = arguments or {}
        _keep(undo, app, method, arguments)
        try:
            return original(self, method, arguments)
        finally:
            recorder.commanded(method, arguments)

    def unwatch() -> None:
        nonlocal watching
        watching = False  # a recorder that began later may still call it
        replaced.end()
        undo.close()

    replaced = Replacement(Node, "handle", handle)
    return unwatch


def watch_sent(app: Any, recorder: Recorder) -> None:
    """Record the commands that tasks of `app` send: their worker may obey only when the test is over."""
    from celery.app.control import Control

    original = Control.broadcast

    def broadcast(self: Any, command: str, arguments: Any = None, *args: Any, **kwargs: Any) -> Any:
        if self.app is app and command not in unchanging():
            recorder.commanded(command, arguments or {}, sent=True)
        return original(self, command, arguments, *args, **kwargs)

    Replacement(Control, "broadcast", broadcast)


def _keep(undo: ExitStack, app: Any, name: str, arguments: Mapping[str, Any]) -> None:
    """Have `undo` put back what a command is about to change in the application or in Celery itself."""
    from celery.worker import state

    task = app.tasks.get(arguments.get("task_name")) if name in ("rate_limit", "time_limit") else None
    if task is not None:
        undo.callback(_put_back, task, {limit: vars(task).get(limit, _MISSING) for limit in _LIMITS})
    elif name == "revoke_by_stamped_headers":
        undo.callback(_put_back_stamps, state.revoked_stamps, dict(state.revoked_stamps))


def _put_back(task: Any, limits: Mapping[str, Any]) -> None:
    for name, value in limits.items():
        if value is not _MISSING:
            setattr(task, name, value)
        elif name in vars(task):
            delattr(task, name)


def _put_back_stamps(stamps: dict[str, Any], before: Mapping[str, Any]) -> None:
    stamps.clear()
    stamps.update(before)
