"""Install the agent in a subprocess worker, after Celery has patched and before it reads its command line."""

from __future__ import annotations

import faulthandler
import os
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_celerypool.agent import commands, loading, publishing, waits
from pytest_celerypool.agent.garbage import Collector
from pytest_celerypool.agent.recorder import Recorder, Writer
from pytest_celerypool.agent.redirect import Redirection
from pytest_celerypool.agent.stacks import StackWriter
from pytest_celerypool.agent.watch import Watch


def install(config: Mapping[str, Any], stacks: StackWriter) -> None:
    """Prepare this process to become the worker that `config` describes.

    :param config: what :mod:`pytest_celerypool.launch.subprocess` wrote for this worker.
    :param stacks: answers in this process already.
    """
    from celery import signals

    faulthandler.enable()
    # No other thread runs Python beside a task where its slot is a process or a greenlet.
    contended = config["pool"] not in ("prefork", "solo", "gevent", "eventlet")
    alone = config["pool"] in ("solo", "threads", "gevent", "eventlet")
    writer = Writer(config["trace"], contended=contended, alone=alone)
    writer.write("boot", pid=os.getpid())
    recorder = Recorder(writer, green=config["green"], contended=contended)
    waits.cap(redis=config["target"]["transport"] is None)
    if config["pool"] == "prefork":
        signals.worker_shutting_down.connect(waits.shorten_prefork_exit(), weak=False)
        _keep_temporary_files(config["folder"])
    _load_through(config, recorder)
    _report_readiness(config, recorder, stacks)


def _load_through(config: Mapping[str, Any], recorder: Recorder) -> None:
    """Have ``celery -A`` find the application as the configuration says, already pointed at the run's broker.

    Celery reads settings of the application while it parses its command line (``worker_pool``), so nothing
    later than the application's own import would do.
    """
    command_line = _command_line()
    watch = None
    if config["detection"] is not None:
        watch = Watch(recorder, config["detection"], "subprocess", config["folder"])
        watch.install()

    def find_app(_name: str) -> Any:
        app = loading.load(config["app"])
        Redirection(app, config["target"], closing=False, **_settings(config)).enter()
        _use_test_databases(config["databases"])
        consume_routed_queues(app)
        publishing.watch(app, recorder.published, recorder.unpublished)
        recorder.connect()
        commands.watch_sent(app, recorder)
        if watch is not None:
            watch.begin(app)
        return app

    command_line.find_app = find_app


def _command_line() -> Any:
    """Import Celery's command line without the prompt of ``celery amqp``.

    That needs a library for terminals (click_repl, prompt_toolkit, pygments), a fifth of all that a worker imports,
    and a worker never shows it. Whoever imports these later gets the real ones.
    """
    wanted = "click_repl"
    if wanted not in sys.modules:
        stub: Any = types.ModuleType(wanted)
        stub.register_repl = lambda group: None
        sys.modules[wanted] = stub
    else:
        stub = None
    try:
        import celery.bin.celery
    finally:
        if stub is not None:
            del sys.modules[wanted]
    return celery.bin.celery


def _keep_temporary_files(folder: str) -> None:
    """Let ``multiprocessing`` (and billiard, which asks it) keep its files where the run removes them.

    It removes them itself at the exit of the process, but not when the process is killed.
    """
    from multiprocessing import process

    process.current_process()._config["tempdir"] = folder  # type: ignore[attr-defined]


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {
        # ``-P prefork`` is also the default, for which Celery asks this setting again; it warns of a green one.
        "worker_pool": "prefork",
        "worker_state_db": None,  # a file of the user's
        "task_always_eager": False,
    }
    if config["concurrency"] is not None:
        settings["worker_concurrency"] = config["concurrency"]
    return settings


def consume_routed_queues(app: Any) -> None:
    """Let the worker consume the queues that the application's static routes name.

    ``celery worker`` without ``-Q`` consumes ``task_queues`` only; a route's queue is created by whoever
    publishes to it first, and nobody consumes it.
    """
    queues = app.amqp.queues
    # Celery 5.7 remembers apart from the queues which of them are consumed; before it all of them were.
    consumed = getattr(queues, "_default_consume_from", queues)
    for name in static_routes(app.conf.task_routes):
        try:
            consumed[name] = queues[name]
        except KeyError:  # task_create_missing_queues is off: a publication to it fails with the same error
            continue


def static_routes(routes: Any) -> list[str]:
    """Return the names of the queues that the maps in a ``task_routes`` setting name, in their order."""
    parts = routes if isinstance(routes, tuple | list) else [routes]
    names: list[str] = []
    for part in parts:
        for route in _routes_of(part):
            queue = route.get("queue") if isinstance(route, Mapping) else route
            queue = getattr(queue, "name", queue)
            if isinstance(queue, str) and queue not in names:
                names.append(queue)
    return names


def _routes_of(part: Any) -> Iterable[Any]:
    """Return the routes of one part of the setting; a router, or the path of one, names none beforehand."""
    if isinstance(part, Mapping):
        return part.values()
    if isinstance(part, tuple | list):
        return [pair[1] for pair in part if _is_pair(pair)]
    return ()


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _use_test_databases(names: Mapping[str, str]) -> None:
    """Point Django at the test databases of the pytest process that owns this worker."""
    if not names:
        return
    from django.db import connections

    for alias, name in names.items():
        for settings in (connections.databases[alias], connections[alias].settings_dict):
            settings["NAME"] = name
            settings.setdefault("TEST", {})["NAME"] = name
        connections[alias].close()


def _report_readiness(config: Mapping[str, Any], recorder: Recorder, stacks: StackWriter) -> None:
    from celery import signals

    collector = Collector(config["folder"])

    def answer_signals(**_: Any) -> None:
        tracer = recorder.tracer
        stacks.register(tracer.running if tracer is not None else None)
        collector.register()

    def on_ready(sender: Any = None, **_: Any) -> None:
        answer_signals()
        _ordinary_priority()
        pool = sender.controller.pool
        if config["green"] and hasattr(pool, "spawn_n"):
            # There a greenlet that has yet to start hears broadcasts.
            pool.spawn_n(report, sender)
        else:
            report(sender)

    def report(consumer: Any) -> None:
        if config["green"]:
            waits.wait_for_broadcasts(consumer)
        recorder.writer.write("ready", pid=os.getpid(), **describe(consumer.controller))

    signals.worker_process_init.connect(answer_signals, weak=False)
    signals.worker_ready.connect(on_ready, weak=False)


def _ordinary_priority() -> None:
    """End the low priority at which a worker that nobody waits for yet is started."""
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) == os.SCHED_BATCH:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def describe(controller: Any) -> dict[str, Any]:
    """Return what the test process checks of a worker that is ready, as plain data.

    :param controller: Celery's ``WorkController``.
    """
    app, pool = controller.app, controller.pool
    cls = type(pool)
    return {
        "hostname": controller.hostname,
        "pool": f"{cls.__module__}:{cls.__qualname__}",
        "concurrency": controller.concurrency,
        "autoscale": bool(controller.autoscale),
        "tasks": sorted(app.tasks),
        "queues": sorted(app.amqp.queues.consume_from),
        "bindings": [
            (name, *binding)
            for name, queue in app.amqp.queues.consume_from.items()
            for binding in publishing.bindings_of(queue)
        ],
        "unchanging": commands.unchanging(),
        "read": app.connection_for_read().as_uri(),
        "write": app.connection_for_write().as_uri(),
        "backend": app.backend.as_uri(),
        "prefix": (app.conf.broker_transport_options or {}).get("global_keyprefix"),
    }
