"""The thread that looks for a detector: when it ends, and what it leaves."""

import re
import sys
import time
import types

import pytest

from pytest_celerypool.agent.detectors.sharing.lookout import Lookout
from pytest_celerypool.agent.frames import Frames


@pytest.fixture
def detector(tmp_path, monkeypatch):
    """What a lookout needs of a detector, in a project with one module."""
    (tmp_path / "users_looked_at.py").write_text("lock = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("users_looked_at")
    failed, resting = [], []
    watch = types.SimpleNamespace(frames=Frames(str(tmp_path)), switch_off=lambda _detector, exc: failed.append(exc))
    yield types.SimpleNamespace(active=True, watch=watch, rest=resting.append, failed=failed, resting=resting)
    del sys.modules["users_looked_at"]


def run(detector, look, pattern=None):
    lookout = Lookout(detector, look, pattern)
    lookout.begin(0.0)
    lookout.begin(0.0)  # it looks already
    end = time.monotonic() + 5
    while lookout.looking and time.monotonic() < end:
        time.sleep(0.001)
    assert not lookout.looking


def test_it_looks_until_there_is_nothing_more_to_see(detector):
    pauses = iter([0.0, 0.001, None])
    run(detector, lambda: next(pauses))
    assert list(pauses) == []
    assert detector.failed == detector.resting == []


def test_it_ends_with_its_detector(detector):
    def look():
        detector.active = False
        return 0.0

    run(detector, look)


def test_what_raises_switches_the_detector_off(detector):
    run(detector, lambda: 1 // 0)
    assert [type(each) for each in detector.failed] == [ZeroDivisionError]


@pytest.mark.parametrize(("pattern", "looks", "resting"), [("lock", 1, []), ("mentioned[ ]nowhere", 0, ["started"])])
def test_it_looks_only_where_the_project_mentions_what_is_looked_for(detector, pattern, looks, resting):
    seen = []
    run(detector, lambda: seen.append(1), re.compile(pattern))
    assert (len(seen), detector.resting) == (looks, resting)
