"""The functions that change state of a process, and which piece of state each call of them sets."""

from __future__ import annotations

import gc
import itertools
import locale
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pytest_celerypool.agent.detectors.state_changes import Subject, text_of

Grade = Literal["shared", "strict", "own"]
Scope = Literal["process", "thread", "slot"]


class Item(NamedTuple):
    """One piece of state that a call sets, and how it is read."""

    subject: Subject
    read: Callable[[], Any]


class Mutator(NamedTuple):
    """A function that changes state.

    :ivar items: tells from the positional and named arguments of a call what it may set.
    :ivar result: whether what the call returns is the old value, and its first argument the new one.
    :ivar direct: whether only a call by the user's own line counts: helpers of the standard library do it by the way.
    """

    owner: Any
    name: str
    items: Callable[..., Iterable[Item]]
    result: bool = False
    direct: bool = False


def _constant(
    label: str,
    read: Callable[[], Any],
    remedy: str,
    grade: Grade = "shared",
    scope: Scope = "process",
    show: Callable[[Any], str] = text_of,
) -> Callable[..., list[Item]]:
    """Return ``items`` of a function that always sets the same subject."""
    item = Item(Subject(label, label, remedy, scope, grade, show), read)
    return lambda *_, **__: [item]


def everything(is_shared_logger: Callable[[Any], bool]) -> list[Mutator]:
    """Return all mutators of the standard library.

    :param is_shared_logger: whether a logger existed before the current task.
    """
    return [
        *_environment(),
        *_directory_and_files(),
        *_places_and_times(),
        *_signals(),
        *_interpreter(),
        *_limits(),
        *_warnings(),
        *_logging(is_shared_logger),
        *_random(),
        *_streams(),
    ]


# -- the environment

_ENVIRONMENT = "Hand the value on as an argument, or to a program by subprocess.run(..., env={**os.environ, ...})."


def _environment() -> list[Mutator]:
    def items(environ: Any, key: Any, *_: Any) -> list[Item]:
        if getattr(environ, "_data", None) is not getattr(os.environ, "_data", environ):
            return []
        name = os.fsdecode(key)
        return [Item(_variable(name), lambda: os.environ.get(name))]

    known: dict[str, str | None] = {}

    def bare(key: Any, *value: Any) -> list[Item]:
        # The C library tells it to programs that are started; os.environ does not know of it.
        name = os.fsdecode(key)
        values = iter((known.get(name, os.environ.get(name)), os.fsdecode(value[0]) if value else None))

        def read() -> str | None:
            known[name] = text = next(values)
            return text

        return [Item(Subject(("putenv", name), f"the variable {name} of the C environment", _ENVIRONMENT), read)]

    return [
        Mutator(os._Environ, "__setitem__", items),
        Mutator(os._Environ, "__delitem__", items),
        *(Mutator(os, name, bare, direct=True) for name in ("putenv", "unsetenv") if hasattr(os, name)),
    ]


def _variable(name: str) -> Subject:
    return Subject(("environ", name), f"os.environ[{name!r}]", _ENVIRONMENT)


# -- files

_DIRECTORY = "Use absolute paths, or hand the directory on: subprocess.run(..., cwd=...), a pathlib.Path argument."
_UMASK = "Give the mode to the call that makes the file, os.open(path, flags, mode), or os.chmod it afterwards."


def _getcwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "(a directory that is gone)"


def _octal(value: Any) -> str:
    return f"0o{value:03o}" if isinstance(value, int) else text_of(value)


def _directory_and_files() -> list[Mutator]:
    directory = _constant("the working directory", _getcwd, _DIRECTORY, "strict")
    return [
        *(Mutator(os, name, directory) for name in ("chdir", "fchdir") if hasattr(os, name)),
        Mutator(os, "umask", _constant("the umask", lambda: None, _UMASK, "strict", show=_octal), result=True),
    ]


# -- locale and time zone


def _places_and_times() -> list[Mutator]:
    def categories(category: int = locale.LC_ALL, value: Any = None) -> list[Item]:
        if value is None:
            return []
        # The category that is set decides who is hurt; LC_ALL holds every other.
        subject = Subject("locale", "the locale", "Format with babel, or with a locale that is handed on.")
        return [Item(subject, lambda: _setlocale(locale.LC_ALL))]

    _setlocale = locale._setlocale  # type: ignore[attr-defined]
    found = [Mutator(locale, "setlocale", categories)]
    if hasattr(time, "tzset"):
        zone = _constant(
            "the time zone",
            lambda: (time.tzname, time.timezone),
            "Use zoneinfo.ZoneInfo(...) with datetime.astimezone() instead of the process's own zone.",
            show=lambda value: value[0][0] if isinstance(value, tuple) else text_of(value),
        )
        found.append(Mutator(time, "tzset", zone))
    return found


# -- signals

_SIGNAL = "Leave signals to the worker: use the task's own soft_time_limit, a deadline, or the library's timeout."


def _signals() -> list[Mutator]:
    counter = itertools.count()
    timers: dict[int, tuple[str, int]] = {}

    def handlers(number: int, *_: Any) -> list[Item]:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = str(number)
        subject = Subject(("signal", name), f"the handler of {name}", _SIGNAL)
        return [Item(subject, lambda: signal.getsignal(number))]

    def timer(which: int, seconds: float) -> list[Item]:
        # Two timers of the same length are not the same timer.
        mine = (f"{seconds:g} s", next(counter)) if seconds else None
        before = timers.get(which) if signal.getitimer(which)[0] > 0 else None
        values = iter((before, mine))

        def read() -> tuple[str, int] | None:
            value = next(values)
            if value is None:
                timers.pop(which, None)
            else:
                timers[which] = value
            return value

        subject = Subject(
            ("timer", which),
            "the alarm timer of the process" if which == signal.ITIMER_REAL else "an interval timer of the process",
            _SIGNAL,
            show=lambda value: "unset" if value is None else value[0],
        )
        return [Item(subject, read)]

    return [
        Mutator(signal, "signal", handlers),
        Mutator(signal, "alarm", lambda seconds: timer(signal.ITIMER_REAL, seconds)),
        Mutator(signal, "setitimer", lambda which, seconds, *_: timer(which, seconds)),
    ]


# -- the interpreter

_INTERPRETER = "Set it once when the worker starts: in the module of the application, or at worker_init."


def _interpreter() -> list[Mutator]:
    own: Grade = "own"
    found = [
        Mutator(
            socket,
            "setdefaulttimeout",
            _constant(
                "the default timeout of sockets",
                socket.getdefaulttimeout,
                "Give the timeout to the client or the call that needs it.",
            ),
        ),
        Mutator(sys, "setrecursionlimit", _constant("the recursion limit", sys.getrecursionlimit, _INTERPRETER, own)),
        Mutator(sys, "setswitchinterval", _constant("the switch interval", sys.getswitchinterval, _INTERPRETER, own)),
        Mutator(threading, "stack_size", _constant("the stack size of threads", _stack_size, _INTERPRETER, own)),
        Mutator(gc, "set_threshold", _constant("the thresholds of gc", gc.get_threshold, _INTERPRETER, own)),
    ]
    collector = _constant(
        "the garbage collector",
        gc.isenabled,
        "Turn it on again in a finally.",
        own,
        show=lambda value: "enabled" if value else "disabled",
    )
    found += [Mutator(gc, name, collector) for name in ("disable", "enable")]
    for kind in ("trace", "profile"):
        read = getattr(sys, f"get{kind}")
        items = _constant(f"the {kind} function", read, "Put the previous one back in a finally.", scope="thread")
        found.append(Mutator(sys, f"set{kind}", items))
    return found


_real_stack_size = threading.stack_size


def _stack_size() -> int:
    return _real_stack_size()


def _limits() -> list[Mutator]:
    found = []
    if hasattr(os, "nice"):
        nice = _constant("the niceness of the process", lambda: os.getpriority(os.PRIO_PROCESS, 0), _INTERPRETER, "own")
        found += [Mutator(os, "nice", nice), Mutator(os, "setpriority", nice)]
    try:
        import resource
    except ImportError:
        return found

    def limit(which: int, *_: Any) -> list[Item]:
        name = next(
            (name for name in dir(resource) if name[:7] == "RLIMIT_" and getattr(resource, name) == which), which
        )
        remedy = "Set it in the program that is started: subprocess.run(..., preexec_fn=...) or prlimit."
        subject = Subject(("rlimit", which), f"the resource limit {name}", remedy)
        return [Item(subject, lambda: resource.getrlimit(which))]

    return [*found, Mutator(resource, "setrlimit", limit)]


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

    filters = _constant("the warnings filters", read, _WARNINGS, show=show)
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

    disabled = _constant(
        "logging.disable",
        lambda: logging.root.manager.disable,
        "Set the level of the logger that is too loud, once when the worker starts.",
        "strict",
        show=lambda value: "off" if not value else logging.getLevelName(value),
    )
    handlers, filters = member("addHandler", "handlers"), member("addFilter", "filters")
    return [
        Mutator(logging, "disable", disabled),
        Mutator(logging.Logger, "setLevel", level),
        Mutator(logging.Logger, "addHandler", handlers),
        Mutator(logging.Logger, "removeHandler", handlers),
        Mutator(logging.Filterer, "addFilter", filters),
        Mutator(logging.Filterer, "removeFilter", filters),
    ]


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


def numpy_mutators(numpy_random: Any) -> list[Mutator]:
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
        values = iter((read(), (text_of(value), next(counter))))
        return [Item(subject, lambda: next(values))]

    found = [Mutator(module, "seed", seeds), Mutator(module, restore, lambda *_: [Item(subject, read)])]
    return [mutator for mutator in found if mutator.name in vars(module)]


# -- standard streams

STREAM = "Hand the stream on: print(..., file=out), or a logger of its own."


def stream(name: str) -> Subject:
    """Return ``sys.stdout`` or another of the standard streams as a subject."""
    return Subject(
        ("stream", name), f"sys.{name}", STREAM, grade="strict", show=lambda value: f"<{type(value).__name__}>"
    )


def _streams() -> list[Mutator]:
    import contextlib

    def items(redirection: Any, *_: Any) -> list[Item]:
        name = redirection._stream
        return [Item(stream(name), lambda: getattr(sys, name))]

    redirect = contextlib._RedirectStream
    return [Mutator(redirect, name, items) for name in ("__enter__", "__exit__")]


# -- the application, and Django


def application_mutators() -> list[Mutator]:
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


def django_mutators() -> list[Mutator]:
    """Return those of Django's language and time zone, if the application uses them."""
    found = []
    translation, timezone = (sys.modules.get(f"django.utils.{name}") for name in ("translation", "timezone"))
    if translation is not None:
        language = _constant(
            "Django's active language", translation.get_language, "Use translation.override(...).", scope="slot"
        )
        found += [Mutator(translation, name, language) for name in ("activate", "deactivate", "deactivate_all")]
    if timezone is not None:
        zone = _constant(
            "Django's current time zone",
            timezone.get_current_timezone_name,
            "Use timezone.override(...).",
            scope="slot",
        )
        found += [Mutator(timezone, name, zone) for name in ("activate", "deactivate")]
    return found
