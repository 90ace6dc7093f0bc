"""The application under test, seen from the test process: where it comes from, and how its waits are watched."""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pytest_celerypool.agent.loading import Source
from pytest_celerypool.errors import WorkerError


def locate(app: Any) -> Source:
    """Find out how a new process can import `app`.

    :param app: a Celery application that exists in this process.
    :returns: a module attribute that holds it; of several the one whose module defines most tasks, because
        a worker that imports it knows these.
    :raises WorkerError: no importable module holds it.
    """
    found = [
        (module, name)
        for module in list(sys.modules.values())
        if _importable(module)
        for name, value in list(vars(module).items())
        if value is app
    ]
    if not found:
        raise WorkerError(
            f"the application {app.main or app!r} lives in no module that a worker could import: it was made inside "
            "a function or a fixture. Keep it at the top of a module, or put what makes it into a function there "
            "and name that: --celery-app=MODULE:FACTORY(). Or let the worker live in the test's own process: "
            "--celery-launch=inprocess."
        )
    defined: dict[str, int] = {}
    for task in list(app.tasks.values()):
        defined[task.__module__] = defined.get(task.__module__, 0) + 1
    module, name = min(found, key=lambda pair: _preference(pair[0], pair[1], defined))
    return Source(module=module.__name__, attribute=name, call=False, file=module.__file__)


def _importable(module: Any) -> bool:
    if not isinstance(module, types.ModuleType):  # sys.modules may hold anything
        return False
    name = module.__name__
    if name == "__main__" or name.partition(".")[0] in ("celery", "kombu", "pytest_celerypool"):
        return False
    return bool(getattr(module, "__file__", None))


def _preference(module: types.ModuleType, name: str, defined: dict[str, int]) -> tuple[Any, ...]:
    file = os.path.basename(module.__file__ or "")
    of_tests = file.startswith(("test_", "conftest")) or file.endswith("_test.py")
    return of_tests, -defined.get(module.__name__, 0), len(module.__name__), name


def put_on_path(root: Path) -> None:
    """Put the project's root on ``sys.path``, as ``celery`` does with the folder it is started in."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def eager_note(app: Any) -> str | None:
    """Return what to say of an application whose own configuration runs tasks eagerly, ``None`` of any other.

    To be asked before the application is pointed at the run's broker.
    """
    if not app.conf.task_always_eager:
        return None
    return (
        f"task_always_eager is on in the application {app.main or app!r}: it is switched off for its tests, "
        "so that workers run its tasks"
    )


class Current:
    """Makes an application the current one, and the default one of other threads, while a test has its worker.

    A shared task, and whatever asks for ``celery.current_app``, is that of the current application: mostly the one that
    was made last, which may be another of the project's or of a fixture's. A worker makes its own the current one too
    (``celery.app.trace.setup_worker_optimizations``).

    :param app: the application under test.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._current, self._default = _current(), _default()

    def take(self) -> None:
        """Make it the current one, also if another was made since."""
        current, default = _current(), _default()
        if current is not self._app:
            self._current = current
            self._app.set_current()
        if default is not self._app:
            self._default = default
            self._app.set_default()

    def give_back(self) -> None:
        """Put back what was current before, unless somebody has made another one current since."""
        from celery import _state

        if _current() is self._app:
            _state._tls.current_app = self._current
        if _default() is self._app:
            _state.default_app = self._default


def _current() -> Any:
    from celery import _state

    return getattr(_state._tls, "current_app", None)


def _default() -> Any:
    from celery import _state

    return _state.default_app


def forget_tasks_of(app: Any, item: Any) -> None:
    """Take away the tasks that a test, or its fixtures of function scope, defined in their bodies.

    Under the next pool the same function runs again, and Celery would keep the first task of each name.

    :param item: a pytest item.
    """
    definitions = getattr(item, "_fixtureinfo", None)
    fixtures = definitions.name2fixturedefs.values() if definitions is not None else ()
    functions = [each[-1].func for each in fixtures if each and each[-1].scope == "function"]
    bodies = {
        (function.__module__, f"{function.__qualname__}.<locals>.")
        for function in (*functions, getattr(item, "function", None))
        if hasattr(function, "__qualname__")
    }
    for name, task in list(app.tasks.items()):
        defined = getattr(task.run, "__module__", None), getattr(task.run, "__qualname__", "")
        if any(defined[0] == module and defined[1].startswith(body) for module, body in bodies):
            app.tasks.unregister(name)


#: The ids of the results that a wait is for, each with those of the tasks that come before it in its chain.
Awaited = dict[str, tuple[str, ...]]

#: How often a wait for a group looks whether the rest of it has come.
_OFTEN_S = 0.01


class WaitWatch:
    """Lets somebody look after the waits for results of one application.

    Covers ``AsyncResult.get()``, ``GroupResult.get()``, ``join()`` and ``join_native()``, which all end in
    two methods of the backend.

    :param interval: called at least every tenth of a second during a wait with the ids waited for, each with those
        before it in its chain, with the moment at which the wait ends, and whether it has a timeout of its own; what it
        raises ends the wait.
    :param failed: called with the ids, likewise, the exception and the wait's own timeout when a wait raised; what it
        raises is raised instead.
    :param limit: seconds for a wait that has no timeout of its own.
    """

    def __init__(
        self,
        interval: Callable[[Awaited, float, bool], None],
        failed: Callable[[Awaited, Exception, float | None], None],
        limit: float,
    ) -> None:
        self._interval = interval
        self._failed = failed
        self._limit = limit

    def install(self, app: Any) -> Callable[[], None]:
        """Watch every backend that `app` has or will make; returns what ends the watch."""
        before = vars(app).get("_get_backend")
        make = app._get_backend
        watched: list[Any] = []

        def get_backend() -> Any:
            backend = make()
            self._watch(backend, watched)
            return backend

        app._get_backend = get_backend
        self._watch(app.backend, watched)

        def uninstall() -> None:
            app.__dict__.pop("_get_backend", None)
            if before is not None:
                app._get_backend = before
            for owner, name in watched:
                owner.__dict__.pop(name, None)

        return uninstall

    def _watch(self, backend: Any, watched: list[Any]) -> None:
        for name in ("wait_for_pending", "iter_native"):
            setattr(backend, name, self._wrapped(getattr(backend, name), generator=name == "iter_native"))
            watched.append((backend, name))
        if hasattr(backend, "get_many"):
            backend.get_many = _often(backend.get_many)
            watched.append((backend, "get_many"))
        if hasattr(backend, "remove_pending_result"):
            # For good. AsyncResult.__del__ calls it to end a subscription, and may do so at any moment: while this
            # very backend holds its lock (with Celery 5.4 and redis-py 5 for ever), or when the server is gone, which
            # it then tries for long to reach. The subscription ends with the connection.
            backend.remove_pending_result = lambda result: result
        consumer = getattr(backend, "result_consumer", None)
        if consumer is not None:
            drain = consumer.drain_events
            consumer.drain_events = lambda timeout=None: drain(timeout=min(timeout or 0.1, 0.1))
            watched.append((consumer, "drain_events"))

    def _wrapped(self, wait: Callable[..., Any], *, generator: bool) -> Callable[..., Any]:
        def options(result: Any, timeout: float | None, on_interval: Any) -> dict[str, Any]:
            awaited, seconds = dict(_awaited(result)), self._limit if timeout is None else timeout
            deadline = time.monotonic() + seconds

            def interval() -> None:
                __tracebackhide__ = True
                self._interval(awaited, deadline, timeout is not None)
                if on_interval is not None:
                    on_interval()

            return {"timeout": seconds, "on_interval": interval}

        def wait_for_pending(result: Any, timeout: float | None = None, on_interval: Any = None, **rest: Any) -> Any:
            __tracebackhide__ = True
            try:
                return wait(result, **options(result, timeout, on_interval), **rest)
            except Exception as exc:
                self._failed(dict(_awaited(result)), exc, timeout)
                raise

        def iter_native(result: Any, timeout: float | None = None, on_interval: Any = None, **rest: Any) -> Any:
            __tracebackhide__ = True
            try:
                yield from wait(result, **options(result, timeout, on_interval), **rest)
            except Exception as exc:
                self._failed(dict(_awaited(result)), exc, timeout)
                raise

        return iter_native if generator else wait_for_pending


def _often(get_many: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``GroupResult.get()`` look for results more often than twice a second."""

    def often(ids: Any, timeout: float | None = None, interval: float = 0.5, **rest: Any) -> Any:
        return get_many(ids, timeout=timeout, interval=min(interval, _OFTEN_S), **rest)

    return often


def _awaited(result: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the ids of the tasks that a result is of, each with the ids of those before it in its chain."""
    if getattr(result, "parent", None) is not None:
        before = (*before, *_before(result))
    children = getattr(result, "results", None)
    if children is None:
        yield result.id, before
    else:
        for child in children:
            yield from _awaited(child, before)


def _before(result: Any) -> Iterator[str]:
    """Yield the ids of all tasks that come before a result in its chain."""
    while (result := getattr(result, "parent", None)) is not None:
        yield from _ids(result)


def _ids(result: Any) -> Iterator[str]:
    children = getattr(result, "results", None)
    if children is None:
        yield result.id
    else:
        for child in children:
            yield from _ids(child)
