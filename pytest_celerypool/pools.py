"""The execution pools as data: their order, what they need, and what they can do.

Everything that differs from pool to pool and is not a matter of starting one is a field of `Pool`. The
facts are those of Celery 5.4 to 5.7, read in ``celery/concurrency`` and measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SettingError, did_you_mean


@dataclass(frozen=True)
class Pool:
    """One execution pool; ``str()`` of it is its ``--pool`` name.

    The facts of a custom pool are unknown and stay False, so that nothing is expected of it.
    """

    name: str
    #: Class of the pool, as Celery writes it: ``"package.module:TaskPool"``.
    path: str
    #: What has to be installed beside Celery, by its import name.
    library: str | None = None
    green: bool = False
    forks: bool = False
    preempts: bool = False
    enforces_soft_time_limit: bool = False
    enforces_hard_time_limit: bool = False
    terminates_on_revoke: bool = False
    sends_process_init: bool = False
    takes_concurrency: bool = True
    grows: bool = False
    replaces_children: bool = False
    answers_control_while_working: bool = False
    allows_get_in_task: bool = False
    reports_system_exit: bool = False
    drops_expired_while_waiting: bool = False

    def __str__(self) -> str:
        return self.name

    def facts(self) -> dict[str, Any]:
        """Return what an agent knows of the pool, as plain data."""
        return {"name": self.name, **{fact: getattr(self, fact) for fact in FACTS}}

    @property
    def custom(self) -> bool:
        """Whether the pool is not one of Celery's own, but named as ``package.module:TaskPool``."""
        return ":" in self.name


#: What each fact of a `Pool` says when it is true, for tables in the documentation.
FACTS: Mapping[str, str] = {
    "green": "Tasks are greenlets of one thread; one that does not yield stops all others.",
    "forks": "Tasks run in child processes, which inherit whatever the worker had opened.",
    "preempts": "A task that computes or blocks does not keep the other slots from running.",
    "enforces_soft_time_limit": "A soft time limit raises SoftTimeLimitExceeded inside the task.",
    "enforces_hard_time_limit": "A hard time limit ends the task.",
    "terminates_on_revoke": "revoke(terminate=True) ends a task that is running.",
    "sends_process_init": "The signal worker_process_init is sent before the first task.",
    "takes_concurrency": "--concurrency decides how many tasks run at once.",
    "grows": "The number of slots can change at run time: --autoscale, pool_grow, pool_shrink.",
    "replaces_children": "--max-tasks-per-child and --max-memory-per-child replace a slot.",
    "answers_control_while_working": "inspect and control are answered while a task runs, if it yields.",
    "allows_get_in_task": "result.get() inside a task is allowed; elsewhere Celery raises RuntimeError.",
    "reports_system_exit": "A task that raises SystemExit ends with an error that its caller sees.",
    "drops_expired_while_waiting": "A task that expires while it waits for a slot is not run.",
}

#: Celery's own pools, in the order of ``all``.
POOLS: tuple[Pool, ...] = (
    Pool(
        name="prefork",
        path="celery.concurrency.prefork:TaskPool",
        forks=True,
        preempts=True,
        enforces_soft_time_limit=True,
        enforces_hard_time_limit=True,
        terminates_on_revoke=True,
        sends_process_init=True,
        grows=True,
        replaces_children=True,
        answers_control_while_working=True,
        reports_system_exit=True,
        drops_expired_while_waiting=True,
    ),
    Pool(
        name="solo",
        path="celery.concurrency.solo:TaskPool",
        sends_process_init=True,
        takes_concurrency=False,
        drops_expired_while_waiting=True,
    ),
    Pool(
        name="threads",
        path="celery.concurrency.thread:TaskPool",
        preempts=True,
        answers_control_while_working=True,
    ),
    Pool(
        name="gevent",
        path="celery.concurrency.gevent:TaskPool",
        library="gevent",
        green=True,
        enforces_hard_time_limit=True,
        terminates_on_revoke=True,
        grows=True,
        answers_control_while_working=True,
        allows_get_in_task=True,
    ),
    Pool(
        name="eventlet",
        path="celery.concurrency.eventlet:TaskPool",
        library="eventlet",
        green=True,
        terminates_on_revoke=True,
        grows=True,
        answers_control_while_working=True,
        allows_get_in_task=True,
    ),
)

#: The pool that a suite for ``celery.contrib.pytest`` names in its own ``celery_worker_pool``, whatever it is.
OWN = Pool(name="own", path="own")

_BY_NAME: Mapping[str, Pool] = {each.name: each for each in POOLS}

ALL = "all"

#: Names under which other software knows a pool, too unlike ours for the spelling hint to find them.
_OTHER_NAMES = {"processes": "prefork", "fork": "prefork", "process": "prefork", "sync": "solo"}


def pool(name: str) -> Pool:
    """Return the pool of that name: one of the five, or custom if it reads ``package.module:TaskPool``.

    Raises KeyError for any other name.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if _is_class_path(name):
        return Pool(name=name, path=name)
    raise KeyError(name)


def parse_pools(text: str | Iterable[str], source: str, *, own: bool = False) -> tuple[Pool, ...]:
    """Read a list of pools, in the order given and each once.

    ``text`` is a comma-separated string, or several of them; ``source`` is what the user wrote it in, for the
    message; ``own`` says whether `OWN` may be named. Raises SettingError for a name that is no pool, and for an
    empty list.
    """
    parts = [text] if isinstance(text, str) else list(text)
    names = [name.strip() for part in parts for name in part.split(",")]
    # A trailing comma does no harm, and a list over several lines often has one.
    lists: dict[str, tuple[Pool, ...]] = {ALL: POOLS, **({OWN.name: (OWN,)} if own else {})}
    found = [each for name in names if name for each in lists.get(name) or (_named(name, source, lists),)]
    if not found:
        raise SettingError(f"{source}: no pool is given. {_valid(lists)}")
    return tuple(dict.fromkeys(found))


def parse_one_pool(text: str, source: str) -> Pool:
    """Read the name of one pool; `source` is what the user wrote it in, for the message.

    Raises SettingError for a name that is no pool, and for a list.
    """
    name = text.strip()
    if name == ALL or "," in name:
        raise SettingError(f"{source}: {text!r} is a list of pools, and one is wanted. {_valid()}")
    return _named(name, source)


def missing(pool: Pool) -> str | None:
    """Return why the pool cannot be used here, as the reason of a skip, or None if it can.

    It looks for what the pool needs without importing it: an import of gevent or eventlet would be a side
    effect. Of a custom pool that shows when a worker starts: see `absent` and `lacking`.
    """
    if pool.library is None or _findable(pool.library):
        return None
    return f"{pool.library} is not installed: pip install {pool.library}"


def absent(pool: Pool) -> str | None:
    """Return the name of the module of a custom pool if there is none, which is an error, or None.

    The module is not imported, its parent packages are. To be asked as late as may be: a conftest file, or a fixture,
    may extend the path.
    """
    module = pool.path.partition(":")[0]
    return module if pool.custom and not _findable(module) else None


def lacking(pool: Pool, name: str | None) -> str | None:
    """Return why a custom pool cannot be used here, as the reason of a skip, or None if that is an error.

    ``name`` is the module that the pool's own could not import, as ModuleNotFoundError has it. One beside the pool's
    module, or one of a package that is installed, is a mistake in the project.
    """
    if not name:
        return None
    package = name.partition(".")[0]
    if package == pool.path.partition(":")[0].partition(".")[0] or _findable(package):
        return None
    return f"{package} is not installed, and the module of the pool {pool} imports it: install what it belongs to"


def default_concurrency(pool: Pool, processors: int, xdist_nodes: int) -> int:
    """Return how many slots a worker of that pool gets where nobody says.

    ``processors`` is how many this machine has; ``xdist_nodes`` how many pytest-xdist nodes share them, 0
    without xdist.
    """
    if not pool.takes_concurrency:
        return 1
    if pool.forks:
        return max(1, min(4, processors) // max(1, xdist_nodes))
    if pool.green:
        return 100
    return max(1, processors) if pool.custom else 8


def sweep(pool: Pool, processors: int) -> tuple[int, ...]:
    """Return the concurrencies at which a pool is measured where a test says ``concurrency="sweep"``.

    Each list goes beyond where its pool is expected to gain: children compete for processors, threads for the
    interpreter's lock, and greenlets cost little until there are hundreds. ``processors`` is how many this machine has.
    """
    if not pool.takes_concurrency:
        return (1,)
    if pool.green:
        return (1, 4, 16, 50, 100, 200)
    below = [2**power for power in range(8) if 2**power < processors]
    if pool.forks:
        # A machine with many processors has no memory for four times as many children.
        factors = (1, 1.5, 2, 3, 4) if processors <= 8 else (1, 1.5, 2)
        return tuple(dict.fromkeys([*below, *(round(processors * factor) for factor in factors)]))
    return tuple(sorted({1, 2, 4, 8, 16, 32, 64, *below, processors, 2 * processors}))


def _named(name: str, source: str, others: Iterable[str] = ()) -> Pool:
    """Return the pool of that name; `others` are the words that would have been valid too."""
    try:
        return pool(name)
    except KeyError:
        other = _OTHER_NAMES.get(name.lower())
        hint = f" Did you mean {other!r}?" if other else did_you_mean(name, (*_BY_NAME, *others))
        raise SettingError(f"{source}: {name!r} is not a pool. {_valid(others)}{hint}") from None


def _valid(others: Iterable[str] = ()) -> str:
    return f"Valid pools: {', '.join((*_BY_NAME, *others))}, or pkg.module:TaskPool."


def _is_class_path(name: str) -> bool:
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _findable(module: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as exc:
        # A parent package that is there may lack something itself.
        return exc.name is None or not f"{module}.".startswith(f"{exc.name}.")
    except Exception:  # noqa: BLE001 - a parent package is the user's, and may raise anything
        # Also a module without a spec, which somebody made by hand. Whoever imports it learns more.
        return True
