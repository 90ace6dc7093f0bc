"""Where this plugin keeps its state: keys of pytest's stashes, names of attributes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections import Counter

    from pytest_celerypool.lease import Observed
    from pytest_celerypool.markers import Markers
    from pytest_celerypool.report.summary import Summary
    from pytest_celerypool.settings import Settings
    from pytest_celerypool.variants import Need, Place
    from pytest_celerypool.worker import WorkerHandle
    from pytest_celerypool.workers import Workers

# In ``config.stash``.
#: Set as soon as a run turns out to use a pool; without it the hooks do nothing.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
WORKERS: pytest.StashKey[Workers] = pytest.StashKey()
SUMMARY: pytest.StashKey[Summary] = pytest.StashKey()
#: What the run should say once at its end.
NOTES: pytest.StashKey[list[str]] = pytest.StashKey()
#: What the header said already.
TOLD: pytest.StashKey[str] = pytest.StashKey()
#: The entry of ``config.workeroutput`` in which a node of xdist sends them.
NOTES_OF_NODE = "celerypool_notes"
#: The attribute of a test report that carries this plugin's plain data, through xdist too.
ATTRIBUTE = "celerypool"
#: The application that ``--celery-app`` names, once it was imported.
APPLICATION: pytest.StashKey[Any] = pytest.StashKey()

# In ``session.stash``.
#: How many tests of each kind of worker are still to come in this process.
REMAINING: pytest.StashKey[Counter[Need | None]] = pytest.StashKey()
NEXT_ITEM: pytest.StashKey[pytest.Item | None] = pytest.StashKey()

# In ``item.stash``.
MARKERS: pytest.StashKey[Markers] = pytest.StashKey()
PLACE: pytest.StashKey[Place] = pytest.StashKey()
#: Set while the test has a worker.
HANDLE: pytest.StashKey[WorkerHandle] = pytest.StashKey()
#: What the test did that its verdict must know of.
OBSERVED: pytest.StashKey[Observed] = pytest.StashKey()
#: Plain data of a judged test for the matrix and for agreement; it travels with the report.
RESULT: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
