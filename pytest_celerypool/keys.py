"""Where this plugin keeps its state: keys of pytest's stashes, names of attributes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections import Counter

    from pytest_celerypool.handle import Handle
    from pytest_celerypool.hosting import Hosting
    from pytest_celerypool.lease import Observed
    from pytest_celerypool.markers import Markers
    from pytest_celerypool.policies import Policies
    from pytest_celerypool.pools import Pool
    from pytest_celerypool.report.summary import Summary
    from pytest_celerypool.settings import Settings
    from pytest_celerypool.standin import StandIn
    from pytest_celerypool.variants import Need, Place, PoolName
    from pytest_celerypool.workers import Workers

# In ``config.stash``.
#: Set as soon as a run turns out to use a pool; without it the hooks do nothing.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
#: The kinds of findings there are, and what each does.
POLICIES: pytest.StashKey[Policies] = pytest.StashKey()
WORKERS: pytest.StashKey[Workers] = pytest.StashKey()
HOSTING: pytest.StashKey[Hosting] = pytest.StashKey()
SUMMARY: pytest.StashKey[Summary] = pytest.StashKey()
#: What the run should say once at its end.
NOTES: pytest.StashKey[list[str]] = pytest.StashKey()
#: What the header said already.
TOLD: pytest.StashKey[str] = pytest.StashKey()
#: The entry of ``config.workeroutput`` in which a node of xdist sends them.
NOTES_OF_NODE = "celerypool_notes"
#: The entry in which it sends what its workers showed only at their end.
LATE_OF_NODE = "celerypool_late"
#: The entry of ``config.workerinput`` that tells a host which one it is.
HOST_NAME = "celerypool_host"
#: The entry of ``config.workerinput`` that tells a node or a host the seed of ``--celery-stress``.
SEED_OF_RUN = "celerypool_seed"
#: The attribute of a test report that carries this plugin's plain data, through xdist too.
ATTRIBUTE = "celerypool"
#: The application that ``--celery-app`` names, once it was imported.
APPLICATION: pytest.StashKey[Any] = pytest.StashKey()

#: The names of contrib's fixture ``celery_worker_pool`` and of all that were found to depend on it.
CONTRIB_DEPENDENTS: pytest.StashKey[set[str]] = pytest.StashKey()
#: The workers of contrib's fixtures that run.
STANDINS: pytest.StashKey[list[StandIn]] = pytest.StashKey()
#: Fixture definitions and requests of the session workers of contrib's that were set up in this process.
SESSION_WORKERS: pytest.StashKey[list[tuple[Any, Any]]] = pytest.StashKey()

# In ``session.stash``.
#: For each ``celery_worker_pool`` that a suite defines, the parameter that stands for it.
OWN_POOLS: pytest.StashKey[dict[Any, PoolName]] = pytest.StashKey()
#: How many tests of each kind of worker are still to come in this process.
REMAINING: pytest.StashKey[Counter[Need | None]] = pytest.StashKey()
NEXT_ITEM: pytest.StashKey[pytest.Item | None] = pytest.StashKey()

# In ``item.stash``.
MARKERS: pytest.StashKey[Markers] = pytest.StashKey()
PLACE: pytest.StashKey[Place] = pytest.StashKey()
#: The marks of ours that the test had when it was placed.
PLACED_BY: pytest.StashKey[list[pytest.Mark]] = pytest.StashKey()
#: In the stash of a class of ``unittest`` that was collected for one pool.
POOL_OF_CLASS: pytest.StashKey[Pool] = pytest.StashKey()
#: The name of the host that has to run the test, where this process cannot.
HOST: pytest.StashKey[str] = pytest.StashKey()
#: Set while the test has a worker, or several.
HANDLE: pytest.StashKey[Handle] = pytest.StashKey()
#: What the test demands of its pool, as names of the pool's facts.
DEMANDS: pytest.StashKey[set[str]] = pytest.StashKey()
#: What the test did that its verdict must know of.
OBSERVED: pytest.StashKey[Observed] = pytest.StashKey()
#: Findings, as plain data, that showed when the test's worker was taken away, after the test was judged.
LATE: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
#: Plain data of a judged test for the matrix and for agreement; it travels with the report.
RESULT: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
