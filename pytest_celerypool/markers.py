"""The markers of a test, read into typed and checked specifications.

Nothing here knows the test: texts of a `MarkerError` name the marker, the argument, what was given and what
is valid, and whoever reports one puts the test's name before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, Literal

from .errors import MarkerError, SettingError, did_you_mean
from .pools import OWN, Pool, parse_one_pool, parse_pools, sweep
from .settings import LAUNCHES, Launch
from .units import BYTES_HELP, SECONDS_HELP, format_bytes, parse_bytes, parse_seconds

if TYPE_CHECKING:
    import pytest

#: Final states of a task that a test can expect.
STATES = ("SUCCESS", "FAILURE", "REVOKED", "REJECTED")

_NOT_ENDS: Mapping[str, str] = {
    "RETRY": "RETRY is not an end: another execution of the same task follows. Use retries=, and the state "
    "that the last one ends with",
    "IGNORED": "IGNORED is not an end: the task has handed over to another under the same id. Use the state "
    "that the other ends with",
}

#: What `celery_expect` can compare between pools.
AGREE = ("state", "retries", "exception", "result")

DURATIONS = ("runtime", "queued", "total", "cpu", "hold", "makespan")
MEASURES = ("runtime", "queued", "total", "cpu", "hold", "memory", "throughput", "overlap", "makespan")

#: Stands for a list of concurrencies that suits the pool and the machine.
SWEEP: Final = "sweep"
_CONCURRENCY = f'a whole number above 0, a list of such, or "{SWEEP}"'

#: The measures that must not fall below their limit; the others must not rise above it.
LOWER_BOUNDS = frozenset({"throughput", "overlap"})

#: The markers that give their test a worker.
WITH_WORKER = ("celery_pools", "celery_expect", "celery_budget")

#: The words of the ``celery worker`` command line that a test cannot choose, with the reason.
_OWNED: Mapping[str, str] = {
    **dict.fromkeys(("-P", "--pool"), "the pool is the axis that the test runs on: name it in the marker"),
    **dict.fromkeys(("-c", "--concurrency"), "use the argument concurrency= of the marker"),
    **dict.fromkeys(("-A", "--app"), "the application comes from --celery-app or the celery_pool_app fixture"),
    **dict.fromkeys(("-n", "--hostname"), "every worker has a name of its own, by which the test reaches it"),
    **dict.fromkeys(("-D", "--detach"), "a detached worker could be neither watched nor stopped"),
    **dict.fromkeys(("-b", "--broker"), "the broker comes from --celery-broker"),
    "--result-backend": "the result backend comes from --celery-backend",
    **dict.fromkeys(("--purge", "--discard"), "it would remove what the test has published"),
    **dict.fromkeys(("-f", "--logfile"), "the log is read for the test's report and the handle's log"),
    "--pidfile": "workers run side by side and would share the file",
}


@dataclass(frozen=True)
class PoolsSpec:
    """``celery_pools``: which pools, and what kind of worker."""

    #: None if the marker names none.
    pools: tuple[Pool, ...] | None = None
    exclude: tuple[Pool, ...] = ()
    launch: Launch | None = None
    #: Several numbers are a second axis; `SWEEP` stands for those that suit the pool.
    concurrency: int | tuple[int, ...] | Literal["sweep"] | None = None
    fresh: bool = False
    options: tuple[str, ...] = ()

    @property
    def sweeps(self) -> bool:
        """Whether concurrency is an axis."""
        return isinstance(self.concurrency, tuple) or self.concurrency == SWEEP

    def concurrencies(self, pool: Pool, processors: int) -> tuple[int | None, ...]:
        """Return the values of the axis under `pool` on a machine with `processors`; None alone where it is none."""
        if isinstance(self.concurrency, tuple):
            return self.concurrency
        return sweep(pool, processors) if self.concurrency == SWEEP else (None,)

    def select(
        self, chosen: tuple[Pool, ...] | None, default: tuple[Pool, ...], *, own: bool = False
    ) -> tuple[Pool, ...]:
        """Return the pools to run the test under, perhaps none.

        ``chosen`` are those that option or ini chose, or None; ``default`` those to run if nobody chose any;
        ``own`` says whether the test has a pool of its own, for which `OWN` stands.
        """
        if chosen is None:
            found = self.pools or default
        else:
            found = tuple(each for each in chosen if self.pools is None or each in self.pools)
        return tuple(each for each in found if each not in self.exclude and (own or each != OWN))


@dataclass(frozen=True)
class ExpectSpec:
    """``celery_expect``: how the tasks of a test end; what is None is not judged."""

    state: str | None = None
    retries: int | None = None
    executions: int | None = None
    #: The fields that have to be the same under every pool; empty if agreement is not demanded.
    agree: tuple[str, ...] = ()
    #: The name of the worker of the test's cluster that has to run them.
    worker: str | None = None
    tasks: str = "*"
    pools: tuple[Pool, ...] | None = None


@dataclass(frozen=True)
class Limit:
    """One limit of a budget: seconds, bytes, tasks a second or tasks, and how to show it."""

    value: float
    text: str


@dataclass(frozen=True)
class Ratio:
    """A limit that is relative to what the same test takes under another pool."""

    to: Pool
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class BudgetSpec:
    """``celery_budget``: limits on what the tasks of a test take."""

    #: Name of a measure to its limit, in the order of `MEASURES`.
    limits: Mapping[str, Limit]
    percentile: float = 100.0
    tasks: str = "*"
    pools: tuple[Pool, ...] | None = None
    #: Name of a measure to its relative limit.
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    #: How often at most a task that broke it, or came too close to tell, is sent again; None: as the run says.
    confirm: int | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """What has to be measured."""
        return (*self.limits, *self.ratios)

    @property
    def timed(self) -> bool:
        """Whether a limit depends on how fast the machine is."""
        return any(name in DURATIONS or name == "throughput" for name in self.measures)


@dataclass(frozen=True)
class AllowSpec:
    """``celery_allow``: the findings that a test knows of."""

    kinds: tuple[str, ...]
    pools: tuple[Pool, ...] | None
    reason: str


@dataclass(frozen=True)
class Markers:
    """Everything that the markers of one test say, closest first."""

    pools: PoolsSpec | None = None
    expects: tuple[ExpectSpec, ...] = ()
    budgets: tuple[BudgetSpec, ...] = ()
    allows: tuple[AllowSpec, ...] = ()


IterMarkers = Callable[[str], Iterable["pytest.Mark"]]


def read(iter_markers: IterMarkers, kinds: Collection[str]) -> Markers:
    """Read the markers of a test; raises MarkerError for the first one that is wrong.

    ``iter_markers`` gives the marks of a name, the closest to the test first, as ``node.iter_markers`` does.
    The closest ``celery_pools`` hides all others of that name; of the other markers all apply. ``kinds`` are the
    kinds of findings that ``celery_allow`` can name.
    """
    closest = next(iter(iter_markers("celery_pools")), None)
    return Markers(
        pools=None if closest is None else read_pools(closest),
        expects=tuple(read_expect(mark) for mark in iter_markers("celery_expect")),
        budgets=tuple(read_budget(mark) for mark in iter_markers("celery_budget")),
        allows=tuple(read_allow(mark, kinds) for mark in iter_markers("celery_allow")),
    )


def wants_worker(iter_markers: IterMarkers) -> bool:
    """Return whether the markers of a test give it a worker, whether or not they are well formed."""
    return any(True for name in WITH_WORKER for _ in iter_markers(name))


def matches(spec_tasks: str, task_name: str) -> bool:
    """Return whether the ``tasks=`` pattern of a marker speaks of that task.

    ``*`` leaves out the tasks that Celery itself adds to a chord or a chunk; another pattern can name them.
    """
    if spec_tasks == "*":
        return not task_name.startswith("celery.")
    return fnmatchcase(task_name, spec_tasks)


def read_pools(mark: pytest.Mark) -> PoolsSpec:
    """Read ``celery_pools``; raises MarkerError."""
    given = _arguments(mark, ("exclude", "launch", "concurrency", "fresh", "options"))
    exclude = given.get("exclude", ())
    fresh = given.get("fresh", False)
    if not isinstance(fresh, bool):
        raise _wrong(mark, "fresh", fresh, "True or False")
    return PoolsSpec(
        pools=_pools(mark, "", mark.args, own=True) if mark.args else None,
        exclude=() if exclude in ((), [], None) else _pools(mark, "exclude", exclude, own=True),
        launch=_launch(mark, given.get("launch")),
        concurrency=_concurrency(mark, given.get("concurrency")),
        fresh=fresh,
        options=read_worker_options(mark.name, given.get("options", ())),
    )


def read_expect(mark: pytest.Mark) -> ExpectSpec:
    """Read ``celery_expect``; raises MarkerError."""
    given = _arguments(mark, ("state", "retries", "executions", "agree", "worker", "tasks", "pools"))
    _no_positional(mark, f"state={mark.args[0]!r}" if mark.args else "")
    state = _state(mark, given.get("state"))
    retries = _count(mark, "retries", given.get("retries"), least=0)
    executions = _count(mark, "executions", given.get("executions"), least=1)
    agree = _agree(mark, given.get("agree"))
    worker = given.get("worker")
    if worker is not None and (not isinstance(worker, str) or not worker):
        raise _wrong(mark, "worker", worker, 'the name of a worker of the test\'s cluster, as in worker="cpu"')
    if state is None and retries is None and executions is None and not agree and worker is None:
        state = "SUCCESS"
    return ExpectSpec(state, retries, executions, agree, worker, _tasks(mark, given), _pools_argument(mark, given))


def read_budget(mark: pytest.Mark) -> BudgetSpec:
    """Read ``celery_budget``; raises MarkerError."""
    given = _arguments(mark, (*MEASURES, "percentile", "tasks", "pools", "confirm"))
    _no_positional(mark, f"runtime={mark.args[0]!r}" if mark.args else "")
    wanted = {name: given[name] for name in MEASURES if given.get(name) is not None}
    limits = {name: _limit(mark, name, limit) for name, limit in wanted.items() if not isinstance(limit, dict)}
    pools = _pools_argument(mark, given)
    ratios = {name: _ratio(mark, name, limit, pools) for name, limit in wanted.items() if isinstance(limit, dict)}
    if not wanted:
        raise MarkerError(f"{mark.name}: no limit is given. Valid limits: {', '.join(MEASURES)}.")
    percentile = given.get("percentile", 100)
    if not _is_number(percentile) or not 0 < percentile <= 100:
        raise _wrong(mark, "percentile", percentile, "a number above 0, at most 100")
    confirm = _count(mark, "confirm", given.get("confirm"), least=0)
    return BudgetSpec(limits, float(percentile), _tasks(mark, given), pools, ratios, confirm)


def read_allow(mark: pytest.Mark, kinds: Collection[str]) -> AllowSpec:
    """Read ``celery_allow``, which can name `kinds`; raises MarkerError."""
    given = _arguments(mark, ("pools", "reason"))
    valid = f"Valid kinds: {', '.join(kinds)}."
    if not mark.args:
        raise MarkerError(f"{mark.name}: no kind of finding is given. {valid}")
    for kind in mark.args:
        if not isinstance(kind, str) or kind not in kinds:
            hint = did_you_mean(str(kind), kinds)
            raise MarkerError(f"{mark.name}: {kind!r} is not a kind of finding. {valid}{hint}")
    reason = given.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise _wrong(mark, "reason", reason, "a text that says why this is all right here")
    return AllowSpec(tuple(dict.fromkeys(mark.args)), _pools_argument(mark, given), reason)


def _wrong(mark: pytest.Mark, argument: str, given: object, valid: str, hint: str = "") -> MarkerError:
    return MarkerError(f"{mark.name}: {argument}={given!r} is not valid. Valid: {valid}.{hint}")


def _arguments(mark: pytest.Mark, valid: Sequence[str]) -> Mapping[str, Any]:
    """Return the keyword arguments of a marker, none of which is unknown."""
    for name in mark.kwargs:
        if name not in valid:
            raise MarkerError(
                f"{mark.name}: there is no argument {name!r}. Valid arguments: {', '.join(valid)}."
                f"{did_you_mean(name, valid)}"
            )
    return mark.kwargs


def _no_positional(mark: pytest.Mark, meant: str) -> None:
    """Refuse positional arguments; ``meant`` shows how the first would be given by name."""
    if mark.args:
        raise MarkerError(f"{mark.name}: {mark.args[0]!r} has to be given by the name of its argument, as in {meant}.")


def _pools(mark: pytest.Mark, argument: str, given: object, *, own: bool = False) -> tuple[Pool, ...]:
    """Read one name, or a tuple or list of names; ``argument`` is empty for the positional ones."""
    names = [given] if isinstance(given, str) else given
    where = f"{mark.name}: {argument}=" if argument else f"{mark.name}: "
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise MarkerError(
            f"{where}{given!r} is not valid. Valid: "
            + ("the name of a pool, or a tuple of names." if argument else "names of pools, each a string.")
        )
    try:
        return parse_pools(names, where.rstrip("= :"), own=own)
    except SettingError as error:
        raise MarkerError(str(error)) from None


def _pools_argument(mark: pytest.Mark, given: Mapping[str, Any]) -> tuple[Pool, ...] | None:
    pools = given.get("pools")
    return None if pools is None else _pools(mark, "pools", pools)


def _tasks(mark: pytest.Mark, given: Mapping[str, Any]) -> str:
    tasks = given.get("tasks", "*")
    if not isinstance(tasks, str) or not tasks:
        raise _wrong(mark, "tasks", tasks, 'a pattern for the names of tasks, as in "proj.tasks.*"')
    return tasks


def _launch(mark: pytest.Mark, given: object) -> Launch | None:
    if given is None:
        return None
    for launch in LAUNCHES:
        if given == launch:
            return launch
    valid = " or ".join(repr(launch) for launch in LAUNCHES)
    raise _wrong(mark, "launch", given, valid, did_you_mean(str(given), LAUNCHES))


def _is_whole(value: object) -> bool:
    """Return whether a value is an int; True and False are not meant as numbers."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _concurrency(mark: pytest.Mark, given: object) -> int | tuple[int, ...] | Literal["sweep"] | None:
    if given is None:
        return None
    if given == SWEEP:
        return SWEEP
    several = isinstance(given, list | tuple)
    numbers: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not numbers or not all(_is_whole(number) and number > 0 for number in numbers):
        raise _wrong(mark, "concurrency", given, _CONCURRENCY, did_you_mean(str(given), (SWEEP,)))
    return tuple(dict.fromkeys(numbers)) if several else numbers[0]


def read_worker_options(where: str, given: object, also_owned: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Read further words of the ``celery worker`` command line; raises MarkerError.

    ``where`` begins the message; ``also_owned`` are further options that cannot be among them, with the reason.
    """
    if isinstance(given, str):
        import shlex

        try:
            words = shlex.split(given)
        except ValueError as error:
            raise MarkerError(f"{where}: options={given!r} cannot be split into words: {error}.") from None
    elif isinstance(given, tuple | list) and all(isinstance(word, str) for word in given):
        words = list(given)
    else:
        example = '("-Q", "mail")' if also_owned is None else '("-O", "fair")'
        raise MarkerError(
            f"{where}: options={given!r} is not valid. "
            f"Valid: words of the `celery worker` command line, as in {example}."
        )
    owned = {**_OWNED, **(also_owned or {})}
    for word in words:
        # Celery takes a value with the option (-Pgevent, --pool=gevent) or as the next word.
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if name in owned:
            raise MarkerError(f"{where}: options cannot hold {word!r}: {owned[name]}.")
    return tuple(words)


def _state(mark: pytest.Mark, given: object) -> str | None:
    if given is None or (isinstance(given, str) and given in STATES):
        return given
    valid = ", ".join(STATES)
    if isinstance(given, str) and given in _NOT_ENDS:
        raise MarkerError(f"{mark.name}: {_NOT_ENDS[given]}. Valid states: {valid}.")
    raise _wrong(mark, "state", given, valid, did_you_mean(str(given), STATES))


def _count(mark: pytest.Mark, name: str, given: Any, least: int) -> int | None:
    if given is None or (_is_whole(given) and given >= least):
        return given  # type: ignore[no-any-return]  # what users pass has no type
    raise _wrong(mark, name, given, f"a whole number, at least {least}")


def _agree(mark: pytest.Mark, given: object) -> tuple[str, ...]:
    if given is None or given is False:
        return ()
    if given is True:
        return AGREE
    fields = [given] if isinstance(given, str) else given
    valid = f"True, or a tuple of {', '.join(AGREE)}"
    if not isinstance(fields, tuple | list) or not fields:
        raise _wrong(mark, "agree", given, valid)
    for each in fields:
        if not isinstance(each, str) or each not in AGREE:
            raise _wrong(mark, "agree", given, valid, did_you_mean(str(each), AGREE))
    return tuple(each for each in AGREE if each in fields)


def _limit(mark: pytest.Mark, name: str, given: Any) -> Limit:
    """Read the limit of one measure; a string is shown as it was written."""
    if name in DURATIONS:
        return _duration(mark, name, given)
    if name == "memory":
        try:
            size = parse_bytes(given)
        except ValueError:
            raise _wrong(mark, name, given, BYTES_HELP) from None
        return Limit(size, given if isinstance(given, str) else format_bytes(size))
    if name == "throughput":
        if not _is_number(given) or not 0 < given < float("inf"):
            raise _wrong(mark, name, given, "tasks a second, a number above 0")
        return Limit(float(given), f"{given:g} tasks/s")
    if not _is_whole(given) or given < 1:
        raise _wrong(mark, name, given, "tasks in flight, a whole number above 0")
    return Limit(float(given), str(given))


_RATIO = ("ratio_to", "at_most", "at_least")


def _ratio(mark: pytest.Mark, name: str, given: Mapping[Any, Any], pools: tuple[Pool, ...] | None) -> Ratio:
    """Read a relative limit; `pools` are those that the marker speaks of."""
    example = 'as in {"ratio_to": "solo", "at_most": 1.2}'
    for key in given:
        if key not in _RATIO:
            hint = did_you_mean(str(key), _RATIO)
            raise MarkerError(
                f"{mark.name}: {name}: there is no key {key!r}. Valid keys: {', '.join(_RATIO)}, {example}.{hint}"
            )
    to = given.get("ratio_to")
    if not isinstance(to, str):
        raise _wrong(mark, name, given, f"a pool to compare with, {example}")
    try:
        pool = parse_one_pool(to, f"{mark.name}: {name}: ratio_to")
    except SettingError as error:
        raise MarkerError(str(error)) from None
    if name == "hold" and not pool.green and not pool.custom:
        raise MarkerError(f"{mark.name}: hold: ratio_to={to!r} cannot be compared with: only green pools have a hub.")
    if pools == (pool,):
        raise MarkerError(f"{mark.name}: {name}: pools= names only {to!r}, which would be compared with itself.")
    bounds = {key: given[key] for key in ("at_most", "at_least") if given.get(key) is not None}
    if not bounds or not all(_is_number(bound) and 0 < bound < float("inf") for bound in bounds.values()):
        raise _wrong(mark, name, given, f"at_most or at_least, or both, each a number above 0, {example}")
    if bounds.get("at_least", 0) > bounds.get("at_most", float("inf")):
        raise _wrong(mark, name, given, "at_least that is not above at_most")
    return Ratio(pool, **{key: float(bound) for key, bound in bounds.items()})


def _duration(mark: pytest.Mark, name: str, given: object) -> Limit:
    try:
        seconds = parse_seconds(given)
    except ValueError:
        seconds = 0.0
    if seconds == 0:
        raise _wrong(mark, name, given, f"above 0, {SECONDS_HELP}")
    return Limit(seconds, given if isinstance(given, str) else f"{given:g} s")
