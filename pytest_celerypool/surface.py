"""What users can give: the options and ini keys, the markers, the fixtures that give a worker, and who gives any.

This is imported in every pytest run of an environment. Most have no use for a pool: it tells which do, so that only
those import the rest.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: Name of an option, without ``celery_``, to its metavar (empty for a flag) and its help, which the ini key shows too.
OPTIONS: Mapping[str, tuple[str, str]] = {
    "pools": (
        "LIST",
        "pools to run the tests under: a comma-separated list of prefork, solo, threads, gevent, eventlet and "
        "pkg.module:TaskPool, or all; own is what a suite's own celery_worker_pool names "
        "(default: prefork, or the pools that a test's own marker names)",
    ),
    "app": (
        "MODULE:ATTR",
        "the application, as for celery -A: MODULE:ATTR, or MODULE:FACTORY() to call a factory "
        "(default: the celery_pool_app fixture)",
    ),
    "launch": (
        "subprocess|inprocess",
        "how workers come to life: subprocess for a `celery worker` of its own, inprocess for one in the process that "
        "runs the test (default: subprocess; always inprocess for the fixtures of celery.contrib.pytest)",
    ),
    "concurrency": (
        "N|POOL=N,...|app",
        "slots of a worker: N for every pool but solo, POOL=N,... for single pools, or app to let Celery and the "
        "application decide (default: prefork as many as processors, at most 4; threads 8; gevent, eventlet 100)",
    ),
    "broker": (
        "embedded|app|URL",
        "embedded for a private Valkey or Redis server, app for what the application is configured with, or the "
        "URL of a broker (default: embedded)",
    ),
    "backend": (
        "embedded|app|URL",
        "the same for the result backend (default: embedded)",
    ),
    "timeout": (
        "SECONDS",
        "seconds that handle calls and draining may take; a test's own get() without a timeout has six times as "
        "long (default: 10)",
    ),
    "findings": (
        "fail|warn|off|KIND=POLICY,...",
        "what a finding of the agent does to its test: one policy for all kinds, for single kinds, or both, as in "
        "warn,hub-busy=fail (default: each kind's own)",
    ),
    "limits": (
        "KIND=VALUE,...",
        "the threshold of kinds of findings that have one, as in hub-busy=200ms (default: each kind's own)",
    ),
    "stress": (
        "N|N:SEED",
        "after each test send its tasks N times more, all at once and shuffled, to provoke what shows only when tasks "
        "overlap; their side effects happen N times; SEED repeats the order of an earlier run (default: off)",
    ),
    "budget_confirm": (
        "N",
        "send a task that broke its budget, or came too close to tell, again, alone, up to N times, and let that "
        "decide; its side effects happen again (default: off)",
    ),
    "baseline": (
        "FILE",
        "store what the tasks of passing tests took in this JSON file, for each task, pool and machine; relative to "
        "the root of the project (default: off)",
    ),
    "budget_ratchet": (
        "[MEASURE:]STATISTIC:+N%,...",
        "fail on what is worse than in the file of --celery-baseline, which then only ever tightens: the measure is "
        "runtime, cpu, hold or queued, the statistic a percentile such as p95, or max, as in p95:+20% or "
        "cpu:max:+10% (default: off)",
    ),
    "advise": (
        "",
        "say at the end which pool and how many slots suit each task, by what was measured (default: off)",
    ),
}

_LISTS = frozenset({"pools", "concurrency", "findings", "limits", "budget_ratchet"})


def option_of(name: str) -> str:
    """Return how users spell the option of that name on the command line."""
    return f"--celery-{name.replace('_', '-')}"


#: The lines that ``pytest --markers`` shows.
MARKERS: tuple[str, ...] = (
    "celery_pools(*pools, exclude=(), launch=None, concurrency=None, fresh=False, options=()): "
    "run the test under a real Celery worker of each of these pools; where option or ini choose pools, "
    "under those of them that the run chose. fresh=True gives the test a worker of its own, a list of "
    "concurrencies, or 'sweep', is a second axis, options are further words of the command line of `celery worker`.",
    "celery_expect(state=None, retries=None, executions=None, agree=None, worker=None, tasks='*', pools=None): "
    "demand how the tasks of the test end, task by task; a bare marker demands SUCCESS. agree=True demands "
    "the same under every pool in which the test ran, worker='cpu' that this worker of its cluster ran them.",
    "celery_budget(runtime=..., queued=..., total=..., cpu=..., hold=..., memory=..., throughput=..., "
    "overlap=..., makespan=..., percentile=100, tasks='*', pools=None, confirm=None): "
    'limit what the tasks of the test take: durations in seconds or as "200ms", sizes in bytes or as '
    '"20MiB", throughput in tasks a second, overlap in tasks in flight; {"ratio_to": "solo", "at_most": 1.2} is '
    "relative to another pool.",
    "celery_allow(*kinds, pools=None, reason=...): "
    "the test knows of findings of these kinds; the reason says why they are all right here.",
)

#: The fixture that is the axis, and those that give a worker, or several.
AXIS, WORKER, CLUSTER = "celery_pool", "celery_pool_worker", "celery_pool_cluster"

#: The same of ``celery.contrib.pytest``: the fixture that names the pool, and those that give a worker of it.
CONTRIB_AXIS, CONTRIB_WORKERS = "celery_worker_pool", ("celery_worker", "celery_session_worker")
CONTRIB_SESSION_APP = "celery_session_app"

#: The ini key that names suites which start their workers themselves.
MULTIPLY = "celery_multiply"

_MARKER_NAMES = frozenset(line.partition("(")[0] for line in MARKERS)


def add_options(parser: pytest.Parser) -> None:
    """Add the group ``celerypool`` with every option, and the ini key of each.

    In an ini file, in setup.cfg and under ``[tool.pytest.ini_options]`` every value may be a string; the
    lists may go over several lines or be a TOML list, the timeout a TOML number. In pytest 9's own TOML
    tables (``[tool.pytest]``, ``pytest.toml``) pytest itself accepts one TOML type a key, a list of strings
    or a string; `given` reads the other forms from the file. With ``-o`` every value is a string.
    """
    group = parser.getgroup("celerypool", "run Celery tasks under real workers of every pool")
    for name, (metavar, text) in OPTIONS.items():
        shape: dict[str, Any] = {"metavar": metavar} if metavar else {"action": "store_const", "const": "true"}
        group.addoption(option_of(name), dest=f"celery_{name}", default=None, help=text.replace("%", "%%"), **shape)
        if name in _LISTS:
            parser.addini(f"celery_{name}", f"{text}; a string or a list", type="linelist", default=None)
        else:
            parser.addini(f"celery_{name}", text, type="string", default=None)
    parser.addini(
        MULTIPLY,
        "tests that call celery.contrib.testing.worker.start_worker themselves, and TestCase classes that do, to be "
        "run under every chosen pool too: globs of node ids, as in tests/integration/* or tests/test_x.py::TestY",
        type="linelist",
        default=[],
    )


def add_markers(config: pytest.Config) -> None:
    """Register the markers, for ``pytest --markers`` and ``--strict-markers``."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def used_by_run(config: pytest.Config) -> bool:
    """Return whether a run was given any of the options or ini keys, with whatever value."""
    return any(given(config, name) is not None for name in OPTIONS)


def used_by_test(fixtures: Container[str], node: Any) -> bool:
    """Return whether a test names one of our fixtures or markers, however well.

    It is asked of every test: loops and lookups without a call are what is fastest.

    :param fixtures: the names of its fixtures.
    """
    if AXIS in fixtures or WORKER in fixtures or CLUSTER in fixtures:
        return True
    while node is not None:
        for mark in node.own_markers:
            if mark.name in _MARKER_NAMES:
                return True
        node = node.parent
    return False


def is_our_mark(mark: pytest.Mark) -> bool:
    """Return whether a mark is one of ours, however well formed."""
    return mark.name in _MARKER_NAMES


def reaches_contrib(fixtures: Container[str]) -> bool:
    """Return whether a test has a worker through the fixtures of ``celery.contrib.pytest``; it is asked of every test.

    :param fixtures: the names of its fixtures.
    """
    return CONTRIB_AXIS in fixtures and (CONTRIB_WORKERS[0] in fixtures or CONTRIB_WORKERS[1] in fixtures)


def given(config: pytest.Config, name: str) -> tuple[object, str] | None:
    """Return the value of an option as it was given and where it came from, or None if nobody gave it."""
    value = config.getoption(f"celery_{name}")
    if value is not None:
        return value, option_of(name)
    key = f"celery_{name}"
    value = _ini(config, key)
    if value is None:
        return None
    overrides = config.getoption("override_ini") or ()
    if any(override.partition("=")[0] == key for override in overrides):
        return value, f"-o {key}"
    return value, f"{key} in {config.inipath.name}" if config.inipath else key


def _ini(config: pytest.Config, key: str) -> object:
    """Return an ini value, in whichever of the allowed types the file gives it."""
    try:
        value: object = config.getini(key)
    except (TypeError, pytest.UsageError):
        # pytest 9's own TOML tables allow one type a key: a list of strings for our lists, a string for the
        # rest. `celery_pools = "solo"` and `celery_timeout = 10` are as clear, so they are read here. Unions
        # of types came only with pytest 9.2, and without lists.
        value = _from_toml(config.inipath, key)
        if value is None:
            raise
    return value


def _from_toml(path: Path | None, key: str) -> object:
    """Return the value that a TOML file has for the key in one of pytest's own tables, or None."""
    if path is None or path.suffix != ".toml":
        return None
    import tomllib

    document = tomllib.loads(path.read_text(encoding="utf-8"))
    for table in (document.get("pytest", {}), document.get("tool", {}).get("pytest", {})):
        if key in table:
            return table[key]
    return None
