"""The functions that change what Python's modules, Celery and Django keep for the whole process."""

from __future__ import annotations

import builtins
import codecs
import inspect
import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple, TypeGuard

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors.code.flow import Flow
from pytest_celerypool.agent.detectors.state.changes import Subject, text_of
from pytest_celerypool.agent.detectors.state.mutator import Grade, Item, Mutator, constant, told
from pytest_celerypool.agent.detectors.state.sources import Line
from pytest_celerypool.agent.frames import Frames


def mutators(is_shared_logger: Callable[[Any], bool]) -> list[Mutator]:
    """Return those of the standard library.

    :param is_shared_logger: whether a logger existed before the current task.
    """
    return [
        *_warnings(),
        *_logging(is_shared_logger),
        *_random(),
        *_streams(),
        *_codecs(),
    ]


def mutators_of_imported() -> list[Mutator]:
    """Return those of modules that the application has imported by now; Celery is among them."""
    found = [
        *_application(),
        *_receivers(),
        *_serializers(),
        *_logging_configuration(),
        *_django(),
        *_settings_of_django(),
        *_of_one_for_all(),
    ]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        found += _numpy(numpy_random)
    return found


# -- warnings and logging

_WARNINGS = "Set the filters once when the worker starts, or handle the warning where it is raised."


def _warnings() -> list[Mutator]:
    if getattr(sys.flags, "context_aware_warnings", False):  # there the filters are of a context
        return []

    def read() -> Any:
        return tuple(warnings.filters), warnings.showwarning, getattr(warnings, "_showwarnmsg_impl", None)

    def show(value: Any) -> str:
        filters = value[0]
        first = f", first {filters[0][0]}::{getattr(filters[0][2], '__name__', '')}" if filters else ""
        return f"{len(filters)} filters{first}"

    filters = constant("the warnings filters", read, _WARNINGS, show=show)
    caught = warnings.catch_warnings
    return [
        *(Mutator(warnings, name, filters) for name in ("simplefilter", "filterwarnings", "resetwarnings")),
        *(Mutator(caught, name, filters) for name in ("__enter__", "__exit__")),
    ]


_LOGGING = (
    "Configure logging once at setup_logging; tell the lines of one task apart by extra=, or by a filter on the id."
)


def _logging(is_shared_logger: Callable[[Any], bool]) -> list[Mutator]:
    def level(logger: Any, *_: Any, **__: Any) -> list[Item]:
        if not is_shared_logger(logger):
            return []
        subject = Subject(
            ("level", logger.name), f"the level of logger {logger.name!r}", _LOGGING, show=logging.getLevelName
        )
        return [Item(subject, lambda: logger.level)]

    def member(of: str, where: str) -> Callable[..., list[Item]]:
        def items(owner: Any, one: Any, *_: Any, **__: Any) -> list[Item]:
            if isinstance(owner, logging.Logger):
                if not is_shared_logger(owner):
                    return []
                name = f"logger {owner.name!r}"
            elif _is_attached(owner):
                name = f"handler {type(owner).__name__}"
            else:
                return []
            subject = Subject(
                (where, id(owner), id(one)),
                f"the {where} of {name} ({type(one).__name__})",
                _LOGGING,
                show=lambda value: "present" if value else "absent",
                group=(where, id(owner)),
            )
            return [Item(subject, lambda: one in getattr(owner, where))]

        return items

    disabled = constant(
        "logging.disable",
        lambda: logging.root.manager.disable,
        "Set the level of the logger that is too loud, once when the worker starts.",
        "strict",
        show=lambda value: "off" if not value else logging.getLevelName(value),
    )
    factory = constant("the factory of logging's records", logging.getLogRecordFactory, _LOGGING, show=_name_of)
    loggers = constant("the class of loggers", logging.getLoggerClass, _LOGGING, show=_name_of)
    handlers, filters = member("addHandler", "handlers"), member("addFilter", "filters")
    return [
        Mutator(logging, "disable", disabled),
        Mutator(logging, "setLogRecordFactory", factory),
        Mutator(logging, "setLoggerClass", loggers),
        Mutator(logging.Logger, "setLevel", level),
        Mutator(logging.Logger, "addHandler", handlers),
        Mutator(logging.Logger, "removeHandler", handlers),
        Mutator(logging.Filterer, "addFilter", filters),
        Mutator(logging.Filterer, "removeFilter", filters),
    ]


def _name_of(value: Any) -> str:
    return getattr(value, "__qualname__", text_of(value))


def _logging_configuration() -> list[Mutator]:
    """Return those of ``logging.config``, if it is imported: they disable loggers by an assignment."""
    config = sys.modules.get("logging.config")
    if config is None:
        return []

    def read() -> Any:
        loggers = list(logging.root.manager.loggerDict.items())
        disabled = tuple(sorted(name for name, logger in loggers if getattr(logger, "disabled", False)))
        return disabled, logging.root.level, tuple(map(id, logging.root.handlers))

    def show(value: Any) -> str:
        return (
            f"root at {logging.getLevelName(value[1])} with {len(value[2])} handlers, {len(value[0])} loggers disabled"
        )

    items = constant("the set-up of logging", read, _LOGGING, show=show)
    return [Mutator(config, name, items) for name in ("dictConfig", "fileConfig")]


def _is_attached(handler: Any) -> bool:
    """Whether a handler is that of any logger."""
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    return any(handler in getattr(logger, "handlers", ()) for logger in loggers)


# -- random numbers


def _random() -> list[Mutator]:
    import random

    return _seeding(
        random,
        "random",
        lambda: hash(random.getstate()),
        "Use a generator of the task's own: random.Random(seed).",
        "setstate",
    )


def _numpy(numpy_random: Any) -> list[Mutator]:
    """Return those of ``numpy.random``, which is imported."""

    def read() -> int:
        state = numpy_random.get_state()
        return hash((state[1].tobytes(), state[2]))

    remedy = "Use a generator of the task's own: numpy.random.default_rng(seed)."
    return _seeding(numpy_random, "numpy.random", read, remedy, "set_state")


def _seeding(module: Any, name: str, read: Callable[[], int], remedy: str, restore: str) -> list[Mutator]:
    """Return the mutators of a module's own generator.

    :param read: returns a digest of its state.
    :param restore: the function that puts a state back.
    """
    counter = itertools.count()

    def show(value: Any) -> str:
        return f"that of seed {value[0]}" if isinstance(value, tuple) else "its own"

    # Tasks that draw nothing from it do not mind; those that seed it themselves do.
    subject = Subject(name, f"the state of {name}'s generator", remedy, grade="own", show=show)

    def seeds(value: Any = None, *_: Any, **__: Any) -> list[Item]:
        if value is None:  # it takes one from the system: that takes nothing from anybody
            return []
        # The same seed again is a change: another task that draws begins from there too.
        return told(subject, read(), (text_of(value), next(counter)))

    found = [Mutator(module, "seed", seeds), Mutator(module, restore, lambda *_: [Item(subject, read)])]
    return [mutator for mutator in found if mutator.name in vars(module)]


# -- standard streams, and what else is set by an assignment

STREAM = "Hand the stream on: print(..., file=out), or a logger of its own."


def stream(name: str) -> Subject:
    """Return ``sys.stdout`` or another of the standard streams as a subject."""
    return Subject(
        ("stream", name), f"sys.{name}", STREAM, grade="strict", show=lambda value: f"<{type(value).__name__}>"
    )


_ARGUMENT = "Hand the value on as an argument; what must be set for all is set once, when the worker starts."

#: Further attributes of modules that programs assign to, the object of a module that has them named after a colon.
_ASSIGNED = (
    ("sys:", "argv"),
    ("sys:", "stdin"),
    ("sys:", "excepthook"),
    ("ssl:", "_create_default_https_context"),
    ("tempfile:", "tempdir"),
    ("socket:", "socket"),
    ("socket:", "getaddrinfo"),
    ("socket:", "create_connection"),
    ("ssl:", "create_default_context"),
    ("time:", "time"),
    ("builtins:", "open"),
    ("builtins:", "input"),
    ("builtins:", "print"),
    ("os:", "environ"),
    ("threading:", "excepthook"),
    ("http.client:HTTPConnection", "debuglevel"),
    ("urllib3.util.connection:", "allowed_gai_family"),
    ("logging:", "raiseExceptions"),
    ("warnings:", "showwarning"),
)


#: Of these everything that talks to others has need, Celery too: while they are replaced no task is left alone.
_OF_ALL = ("socket:", "ssl:", "time:", "builtins:")


def assigned() -> list[tuple[Any, str, Subject]]:
    """Return what many programs set by an assignment: the owner, the attribute, and the piece of state that it is."""
    found = [(sys, name, stream(name)) for name in ("stdout", "stderr")]
    for where, name in _ASSIGNED:
        module_name, _, path = where.partition(":")
        module = sys.modules.get(module_name)
        owner = getattr(module, path, None) if path else module
        if owner is not None and hasattr(owner, name):
            label = f"{path or module_name}.{name}"
            # Of the others, tasks that do not set it themselves mostly do not mind.
            grade: Grade = "strict" if where in _OF_ALL else "own"
            found.append((owner, name, _assigned(label, grade)))
    return found


def _assigned(label: str, grade: Grade) -> Subject:
    return Subject(("assigned", label), label, _ARGUMENT, grade=grade, show=_shown)


class Assignment(NamedTuple):
    """A line of a task that assigns in a module or class that is not the user's.

    :ivar certain: whether the task is certain to come by it.
    """

    owner: Any
    name: str
    subject: Subject
    line: Line
    certain: bool


def assigned_by(flow: Flow, frames: Frames) -> Iterator[Assignment]:
    """Yield what a task assigns in modules and classes that are not the user's, and of Celery's in tasks.

    :param flow: the steps of the task.
    """
    from celery import Task

    for step in flow.steps:
        place = step.place
        if step.kind != "write" or step.how != "=" or place is None or not isinstance(place.key, str):
            continue
        owner: Any = place.owner if place.attribute else sys.modules.get(_name_of_module(place.owner))
        line = Line(step.code.co_filename, step.line, step.code.co_name)
        if _is_of_others(owner, frames) and place.key in vars(owner):
            subject = _assigned(f"{owner.__name__}.{place.key}", "own")
            yield Assignment(owner, place.key, subject, line, not step.path)
        elif issubclass(type(owner), Task) and place.key in vars(Task):
            # What Celery goes by when anybody sends or runs it.
            yield Assignment(owner, place.key, _assigned(f"{owner.name}.{place.key}", "read"), line, not step.path)


def _name_of_module(names: Any) -> str:
    """Return the name of the module whose names these are, nothing if they are no module's."""
    name = names.get("__name__") if type(names) is dict else None
    return name if isinstance(name, str) and vars(sys.modules.get(name, object)) is names else ""


def _is_of_others(owner: Any, frames: Frames) -> TypeGuard[ModuleType | type]:
    module = owner if isinstance(owner, ModuleType) else sys.modules.get(getattr(owner, "__module__", ""))
    if not isinstance(owner, ModuleType | type) or module is None:
        return False
    file = getattr(module, "__file__", None)
    return file is None or not frames.is_user(str(file))


def _type_of(value: Any) -> str:
    return "none" if value is None else f"<{type(value).__name__}>"


def _shown(value: Any) -> str:
    return f"<{_name_of(value)}>" if callable(value) else text_of(value)


def _streams() -> list[Mutator]:
    import contextlib

    def items(redirection: Any, *_: Any) -> list[Item]:
        name = redirection._stream
        return [Item(stream(name), lambda: getattr(sys, name))]

    redirect = contextlib._RedirectStream
    return [Mutator(redirect, name, items) for name in ("__enter__", "__exit__")]


def _codecs() -> list[Mutator]:
    """Return that of the handlers of errors, of which a name has one for the process."""
    remedy = "Register each handler once, under a name of its own, where the module is imported."

    def items(name: str, _: Any) -> list[Item]:
        def read() -> Any:
            try:
                return codecs.lookup_error(name)
            except LookupError:
                return None

        label = f"the handler of codecs' errors {name!r}"
        return [Item(Subject(("codecs", name), label, remedy, grade="own", show=_shown), read)]

    return [Mutator(codecs, "register_error", items)]


# -- what modules keep once for all

_OWN_TRACE = "Measure one task at a time, or all of them by one that the worker starts and nobody stops."
_OPENER = "Build an opener and call its own open(): urllib.request.build_opener(...).open(url)."
_GETTEXT = "Bind the name in the task: _ = gettext.translation(...).gettext."
_POLICY = "Give the loop to the call: asyncio.Runner(loop_factory=...), once the worker has started."


def _of_one_for_all() -> list[Mutator]:
    """Return those of modules of the standard library that seldom anybody imports."""
    tracemalloc, request, gettext = map(sys.modules.get, ("tracemalloc", "urllib.request", "gettext"))
    asyncio = sys.modules.get("asyncio")
    found = [*_fields_of_csv(), *_dialects_of_csv(), *_namespaces(), *_timer_of_faulthandler(), *_profiler()]
    if tracemalloc is not None:
        tracing = constant(
            "tracemalloc", tracemalloc.is_tracing, _OWN_TRACE, "own", show=lambda value: "on" if value else "off"
        )
        found += [Mutator(tracemalloc, name, tracing) for name in ("start", "stop")]
    if request is not None:
        opener = constant("urllib's opener", lambda: request._opener, _OPENER, "own", show=_type_of)
        found.append(Mutator(request, "install_opener", opener))
    if gettext is not None:
        name = constant("the name _ of all modules", lambda: vars(builtins).get("_"), _GETTEXT, "own")
        found.append(Mutator(gettext.NullTranslations, "install", name))
    if asyncio is not None:
        policy = constant("asyncio's policy", lambda: asyncio.events._event_loop_policy, _POLICY, "own", show=_type_of)
        found.append(Mutator(asyncio, "set_event_loop_policy", policy))
    return found


def _settings_of_django() -> list[Mutator]:
    """Return those of Django's settings, which are one object for the process; its own names begin with ``_``."""
    module, utils = sys.modules.get("django.conf"), sys.modules.get("django.test.utils")
    remedy = "Pass the value on, or keep what differs from task to task in a context variable."
    found = []

    def item(settings: Any, name: str) -> Item:
        subject = Subject(("django", name), f"Django's setting {name}", remedy, grade="own")
        return Item(subject, lambda: getattr(settings, name, None))

    def items(settings: Any, name: str, *_: Any) -> list[Item]:
        return [] if name.startswith("_") else [item(settings, name)]

    def overridden(override: Any) -> list[Item]:
        return [item(module.settings, name) for name in override.options]  # type: ignore[union-attr]

    if module is not None:
        found += [Mutator(module.LazySettings, name, items) for name in ("__setattr__", "__delattr__")]
    if utils is not None:
        found += [Mutator(utils.override_settings, name, overridden) for name in ("enable", "disable")]
    return found


def _fields_of_csv() -> list[Mutator]:
    csv = sys.modules.get("csv")
    remedy = "Set it once, where the module is imported, to what the largest file needs."
    read: Any = getattr(csv, "field_size_limit", None)
    subject = Subject("csv", "csv.field_size_limit", remedy, grade="own", show=text_of)

    def items(limit: Any = None) -> list[Item]:
        return [] if limit is None else [Item(subject, read)]

    return [Mutator(csv, "field_size_limit", items)] if csv is not None else []


def _dialects_of_csv() -> list[Mutator]:
    """Return those of the dialects, of which a name has one for the process."""
    csv = sys.modules.get("csv")
    remedy = "Give the reader its own: csv.reader(lines, delimiter=...), or a subclass of csv.Dialect."
    fields = ("delimiter", "quotechar", "escapechar", "doublequote", "skipinitialspace", "lineterminator", "quoting")

    def items(name: Any, *_: Any, **__: Any) -> list[Item]:
        def read() -> Any:
            try:
                dialect = csv.get_dialect(name)  # type: ignore[union-attr]
            except csv.Error:  # type: ignore[union-attr]
                return None
            return tuple(getattr(dialect, field) for field in fields)

        return [Item(Subject(("csv", name), f"csv's dialect {name!r}", remedy, grade="own", show=text_of), read)]

    return [Mutator(csv, name, items) for name in ("register_dialect", "unregister_dialect")] if csv is not None else []


def _namespaces() -> list[Mutator]:
    """Return that of the prefixes that ``xml.etree`` writes: a prefix is that of one namespace at a time."""
    etree = sys.modules.get("xml.etree.ElementTree")
    remedy = "Register each namespace once, under a prefix of its own, where the module is imported."

    def items(prefix: Any, _: Any) -> list[Item]:
        def read() -> Any:
            known = list(etree._namespace_map.items())  # type: ignore[union-attr]
            return next((uri for uri, each in known if each == prefix), None)

        subject = Subject(
            ("namespace", prefix), f"the namespace of the prefix {prefix!r} in xml.etree", remedy, grade="own"
        )
        return [Item(subject, read)]

    return [Mutator(etree, "register_namespace", items)] if etree is not None else []


def _timer_of_faulthandler() -> list[Mutator]:
    """Return those of the one timer after which ``faulthandler`` shows where the process is."""
    faulthandler = sys.modules.get("faulthandler")
    counter, now = itertools.count(), [None]
    remedy = "Watch one task at a time, or let a time limit of Celery's show where a task is."
    subject = Subject("faulthandler", "the timer of faulthandler", remedy, grade="own", show=_timer)

    def starts(timeout: Any, *_: Any, **__: Any) -> list[Item]:
        return change((text_of(timeout), next(counter)))

    def change(new: Any) -> list[Item]:
        # There is no asking for it: what is read before a call is what the last one has set.
        old, now[0] = now[0], new
        return told(subject, old, new)

    mutators = [
        Mutator(faulthandler, "dump_traceback_later", starts),
        Mutator(faulthandler, "cancel_dump_traceback_later", lambda: change(None)),
    ]
    return mutators if faulthandler is not None else []


def _profiler() -> list[Mutator]:
    """Return those of ``cProfile``: a thread has one profiler at a time, since Python 3.12 the process has."""
    profile = getattr(sys.modules.get("cProfile"), "Profile", None)
    of_thread = sys.version_info < (3, 12)
    counter = itertools.count()
    now: dict[int, Any] = {}
    remedy = "Profile a worker that runs one task at a time (solo), or all of its tasks by one profiler."

    def change(new: Any) -> list[Item]:
        thread = originals.get_ident() if of_thread else 0
        subject = Subject(
            ("profiler", thread),
            "the profiler",
            remedy,
            scope="thread" if of_thread else "process",
            grade="own",
            show=lambda value: "none" if value is None else "one of its own",
        )
        old, now[thread] = now.get(thread), new
        return told(subject, old, new)

    mutators = [
        Mutator(profile, "enable", lambda *_, **__: change(next(counter) + 1)),
        Mutator(profile, "disable", lambda *_: change(None)),
    ]
    return mutators if profile is not None else []


def _timer(value: Any) -> str:
    return "off" if value is None else f"{value[0]} s"


# -- the application, and Django


def _application() -> list[Mutator]:
    """Return those of the configuration of Celery's applications; Celery is imported."""
    from celery.app.utils import Settings
    from celery.utils.collections import ChainMap, ConfigurationView

    def item(conf: Any, key: Any) -> Item:
        remedy = "Give it to the call: apply_async(...), or configure the application once at import."
        return Item(Subject(("conf", id(conf), key), f"app.conf.{key}", remedy), lambda: conf.get(key))

    def one(conf: Any, key: Any, *_: Any) -> list[Item]:
        return [item(conf, key)] if isinstance(conf, Settings) and isinstance(key, str) else []

    def several(conf: Any, *args: Any, **kwargs: Any) -> list[Item]:
        keys = list(kwargs)
        for argument in args:
            keys += list(argument) if isinstance(argument, Mapping) else []
        return [each for key in keys for each in one(conf, key)]

    return [
        Mutator(ConfigurationView, "__setitem__", one),
        Mutator(ChainMap, "__delitem__", one),
        Mutator(ChainMap, "update", several),
    ]


def _serializers() -> list[Mutator]:
    """Return those of the formats that kombu accepts where nobody says which."""
    from kombu.serialization import SerializerRegistry

    remedy = "Say it in the call: message.decode() of accept=[...], loads(..., accept=[...])."

    def items(registry: Any, name: Any) -> list[Item]:
        content_type = registry.name_to_type.get(name, name)
        subject = Subject(
            ("serializer", id(registry), content_type),
            f"kombu's registry ({content_type})",
            remedy,
            grade="own",
            show=lambda value: "disabled" if value else "enabled",
        )
        return [Item(subject, lambda: content_type in registry._disabled_content_types)]

    return [Mutator(SerializerRegistry, name, items) for name in ("enable", "disable")]


_RECEIVERS = "Connect it once, where the module is imported; what one task alone needs goes into the task."


def _receivers() -> list[Mutator]:
    """Return those of Celery's signals: a function made in a task and kept is called after each later one too."""
    from celery.utils.dispatch.signal import Signal

    def items(signal: Any, receiver: Any = None, *_: Any, **__: Any) -> list[Item]:
        code = getattr(receiver, "__code__", None)
        # One of a module is there once, however often it is connected.
        if code is None or not code.co_flags & inspect.CO_NESTED:
            return []
        subject = Subject(
            ("receiver", id(signal), id(receiver)),
            f"the receivers of {signal.name} ({code.co_qualname})",
            _RECEIVERS,
            grade="own",
            show=lambda value: "present" if value else "absent",
        )
        # A reference that is weak holds it no longer than the task does.
        return [Item(subject, lambda: any(held is receiver for _, held in signal.receivers or ()))]

    return [Mutator(Signal, name, items) for name in ("connect", "disconnect")]


def _django() -> list[Mutator]:
    """Return those of Django's language and time zone, if the application uses them."""
    found = []
    translation, timezone = (sys.modules.get(f"django.utils.{name}") for name in ("translation", "timezone"))
    if translation is not None:
        language = constant(
            "Django's active language", translation.get_language, "Use translation.override(...).", scope="slot"
        )
        found += [Mutator(translation, name, language) for name in ("activate", "deactivate", "deactivate_all")]
    if timezone is not None:
        zone = constant(
            "Django's current time zone",
            timezone.get_current_timezone_name,
            "Use timezone.override(...).",
            scope="slot",
        )
        found += [Mutator(timezone, name, zone) for name in ("activate", "deactivate")]
    return found
