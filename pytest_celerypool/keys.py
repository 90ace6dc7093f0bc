"""Where this plugin keeps its state: keys of pytest's stashes, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_celerypool.lease import Observed
    from pytest_celerypool.markers import Markers
    from pytest_celerypool.report.summary import Summary
    from pytest_celerypool.settings import Settings
    from pytest_celerypool.variants import Need, Place
    from pytest_celerypool.worker import WorkerHandle
    from pytest_celerypool.workers import Workers

# In ``config.stash``.
SETTINGS = pytest.StashKey["Settings"]()
WORKERS = pytest.StashKey["Workers"]()
SUMMARY = pytest.StashKey["Summary"]()
#: What the run should say once at its end.
NOTES = pytest.StashKey[list[str]]()

# In ``session.stash``.
#: How many tests of each kind of worker are still to come in this process.
REMAINING = pytest.StashKey["Counter[Need | None]"]()
NEXT_ITEM = pytest.StashKey["pytest.Item | None"]()

# In ``item.stash``.
MARKERS = pytest.StashKey["Markers"]()
PLACE = pytest.StashKey["Place"]()
#: Set while the test has a worker.
HANDLE = pytest.StashKey["WorkerHandle"]()
OBSERVED = pytest.StashKey["Observed"]()
#: Plain data of a judged test for the matrix and for agreement; it travels with the report.
RESULT = pytest.StashKey[dict[str, Any]]()
