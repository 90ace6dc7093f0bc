"""The functions that change what the operating system or the interpreter keeps for the whole process."""

from __future__ import annotations

import functools
import gc
import itertools
import locale
import os
import shutil
import signal
import socket
import sys
import threading
import time
from typing import Any

from pytest_celerypool.agent.detectors.state.changes import Subject, text_of
from pytest_celerypool.agent.detectors.state.mutator import Grade, Item, Mutator, constant


def mutators() -> list[Mutator]:
    """Return those of the environment, files, locale, time zone, signals and the interpreter."""
    return [
        *_environment(),
        *_directory_and_files(),
        *_places_and_times(),
        *_signals(),
        *_interpreter(),
        *_limits(),
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

        return [
            Item(
                Subject(("putenv", name), f"the variable {name} of the C environment", _ENVIRONMENT, grade="read"), read
            )
        ]

    return [
        Mutator(os._Environ, "__setitem__", items),
        Mutator(os._Environ, "__delitem__", items),
        *(Mutator(os, name, bare, direct=True) for name in ("putenv", "unsetenv") if hasattr(os, name)),
    ]


def _variable(name: str) -> Subject:
    return Subject(("environ", name), f"os.environ[{name!r}]", _ENVIRONMENT, grade="read")


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
    directory = constant("the working directory", _getcwd, _DIRECTORY, "strict")
    # eventlet gives the module shutil an os of its own.
    systems = {id(each): each for each in (os, vars(shutil)["os"])}.values()
    return [
        *(Mutator(each, name, directory) for each in systems for name in ("chdir", "fchdir") if hasattr(each, name)),
        Mutator(os, "umask", constant("the umask", lambda: None, _UMASK, "strict", show=_octal), result=True),
        Mutator(os, "dup2", _standard_descriptor, direct=True),
    ]


def _standard_descriptor(_: int, fd: int, *__: Any) -> list[Item]:
    """Tell of what programs that are started write to, and C code prints to."""
    remedy = "Hand the file to the program: subprocess.run(..., stdout=file)."

    def read() -> tuple[int, int] | None:
        try:
            found = os.fstat(fd)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    if fd not in (0, 1, 2):
        return []
    subject = Subject(("descriptor", fd), f"descriptor {fd}", remedy, grade="own", show=_shown_inode)
    return [Item(subject, read)]


def _shown_inode(value: Any) -> str:
    return "closed" if value is None else f"inode {value[1]}"


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
        zone = constant(
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

    sigmask = signal.pthread_sigmask
    mask = constant(
        "the mask of signals",
        lambda: frozenset(sigmask(signal.SIG_BLOCK, ())),
        _SIGNAL,
        scope="thread",
        show=lambda value: "{" + ", ".join(sorted(getattr(each, "name", str(each)) for each in value)) + "}",
    )
    return [
        Mutator(signal, "signal", handlers),
        Mutator(signal, "pthread_sigmask", mask),
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
            constant(
                "the default timeout of sockets",
                socket.getdefaulttimeout,
                "Give the timeout to the client or the call that needs it.",
            ),
        ),
        Mutator(sys, "setrecursionlimit", constant("the recursion limit", sys.getrecursionlimit, _INTERPRETER, own)),
        Mutator(
            sys,
            "set_int_max_str_digits",
            constant("the limit of digits of an integer's text", sys.get_int_max_str_digits, _INTERPRETER, own),
        ),
        Mutator(sys, "setswitchinterval", constant("the switch interval", sys.getswitchinterval, _INTERPRETER, own)),
        Mutator(threading, "stack_size", constant("the stack size of threads", _stack_size, _INTERPRETER, own)),
        Mutator(gc, "set_threshold", constant("the thresholds of gc", gc.get_threshold, _INTERPRETER, own)),
    ]
    collector = constant(
        "the garbage collector",
        gc.isenabled,
        "Turn it on again in a finally.",
        own,
        show=lambda value: "enabled" if value else "disabled",
    )
    found += [Mutator(gc, name, collector) for name in ("disable", "enable")]
    for kind in ("trace", "profile"):
        read = getattr(sys, f"get{kind}")
        items = constant(f"the {kind} function", read, "Put the previous one back in a finally.", scope="thread")
        found.append(Mutator(sys, f"set{kind}", items))
    return found


_real_stack_size = threading.stack_size


def _stack_size() -> int:
    return _real_stack_size()


_USER = "Start a program that becomes the other user: subprocess.run(..., user=..., group=...)."


def _limits() -> list[Mutator]:
    found = []
    for name in ("seteuid", "setegid"):
        # Of the process: the C library sets it in every thread.
        read = getattr(os, name.replace("set", "get"))
        found.append(Mutator(os, name, constant(f"the effective {name[-3:]} of the process", read, _USER, "strict")))
    if hasattr(os, "sched_setaffinity"):
        read = functools.partial(os.sched_getaffinity, 0)
        affinity = constant("the processors of the thread", read, _INTERPRETER, "own", "thread")
        found.append(Mutator(os, "sched_setaffinity", affinity))
    if hasattr(os, "nice"):
        nice = constant("the niceness of the process", lambda: os.getpriority(os.PRIO_PROCESS, 0), _INTERPRETER, "own")
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
