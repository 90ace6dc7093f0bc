"""What happens around one test: its markers are checked, its worker is judged, its report is completed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pytest_celerypool.errors import MarkerError
from pytest_celerypool.keys import (
    ATTRIBUTE,
    DEMANDS,
    HANDLE,
    LATE,
    MARKERS,
    NEXT_ITEM,
    NOTES,
    OBSERVED,
    PLACE,
    REMAINING,
    RESULT,
    SETTINGS,
)
from pytest_celerypool.markers import Markers, PoolsSpec
from pytest_celerypool.surface import AXIS, CLUSTER, WORKER, reaches_contrib
from pytest_celerypool.variants import markers_of, marks_give_worker, need_of


def note_next(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note which tests are still to come: their workers may start ahead, others may stop."""
    session = item.session
    session.stash[NEXT_ITEM] = nextitem
    if hasattr(item.config, "workerinput"):
        return  # a node of xdist collects all tests and runs some
    if REMAINING not in session.stash:
        session.stash[REMAINING] = Counter(need_of(other) for other in session.items)
    session.stash[REMAINING][need_of(item)] -= 1


def check_markers(item: pytest.Item) -> None:
    """Read the markers of a test; a wrong one fails it here, with its name."""
    forget(item)
    try:
        read = markers_of(item)
        _check_workers(read, item)
        _check_late(read, item)
    except MarkerError as exc:
        raise pytest.fail.Exception(f"{item.nodeid}: {exc}", pytrace=False) from None
    item.stash[MARKERS] = read


def _check_workers(read: Markers, item: pytest.Item) -> None:
    for spec in read.expects:
        if spec.worker is not None and CLUSTER not in getattr(item, "fixturenames", ()):
            raise MarkerError(
                f"celery_expect: worker={spec.worker!r} names a worker of a cluster, and this test has none: "
                f"ask for the fixture {CLUSTER}."
            )


def _check_late(read: Markers, item: pytest.Item) -> None:
    """Refuse what marks say that came too late for it: nothing would be judged, or nothing multiplied."""
    names = getattr(item, "fixturenames", ())
    if not isinstance(item, pytest.Function) or item.get_closest_marker("skip") is not None:
        return
    if marks_give_worker(names, item.iter_markers()) and WORKER not in names and CLUSTER not in names:
        raise MarkerError(_without_worker(item))
    value = getattr(getattr(item, "callspec", None), "params", {}).get(AXIS)
    pools = read.pools or PoolsSpec()
    if pools.sweeps and value is not None and getattr(value, "concurrency", None) is None:
        raise MarkerError(
            f"celery_pools: concurrency={pools.concurrency!r} is an axis, and the mark came too late to make one. "
            "Put it on the function or on its parameter set, or give one number."
        )


def _without_worker(item: pytest.Function) -> str:
    """Return why a test that is marked has no worker, and what to do."""
    if reaches_contrib(item.fixturenames):
        return (
            "celery_expect or celery_budget on a parameter set, or added by a hook, gives no worker to a test that has "
            "one of celery.contrib.pytest, so it would judge nothing. Put it on the function."
        )
    return (
        "celery_pools, celery_expect or celery_budget was added too late to give it a worker and would do nothing. Add "
        f"it in pytest_collection_modifyitems without trylast, put it on the function, or ask for {WORKER}."
    )


def forget(item: pytest.Item) -> None:
    """Forget an earlier run of the same item: pytest-rerunfailures runs it again."""
    if HANDLE in item.stash:
        del item.stash[HANDLE]
    if OBSERVED in item.stash:
        del item.stash[OBSERVED]
    if RESULT in item.stash:
        del item.stash[RESULT]


def begin_call(item: pytest.Item) -> None:
    """Have the test's application be the current one, whatever others its fixtures have made."""
    observed = item.stash.get(OBSERVED, None)
    if observed is not None and observed.current is not None:
        observed.current.take()


def judge_passed(item: pytest.Item) -> None:
    """Judge the tasks of a test that passed; what they did wrong fails it."""
    if HANDLE in item.stash:
        from pytest_celerypool.judge import judge, render

        failures = judge(item, failed=False)
        if failures:
            pytest.fail(render(failures), pytrace=False)


def judge_failed(item: pytest.Item, exc: BaseException) -> None:
    """Judge the tasks of a test that failed: nothing more is demanded of it, but its figures are kept."""
    if HANDLE in item.stash and isinstance(exc, Exception | pytest.fail.Exception):
        from pytest_celerypool.judge import judge

        judge(item, failed=True)


def complete(item: pytest.Item, report: pytest.TestReport) -> None:
    """Attach the worker's log to a failing test's report, and what the end of the session needs to every one."""
    if report.failed and HANDLE in item.stash and report.when != "teardown":
        from pytest_celerypool.judge import sections

        report.sections += sections(item)
    if report.failed and DEMANDS in item.stash:
        from pytest_celerypool.contrib import nature_of

        report.sections += nature_of(item, report)
    data = _data(item, report)
    if data:
        setattr(report, ATTRIBUTE, data)


def _data(item: pytest.Item, report: pytest.TestReport) -> dict[str, Any]:
    """Return plain data about this phase of a test; empty for a test that is none of ours."""
    data: dict[str, Any] = {}
    place = item.stash.get(PLACE, None)
    if place is not None:
        data |= {"test": place.test, "column": place.column}
    elif HANDLE in item.stash or _reached_contribs_worker(item):
        data["dynamic"] = True
    else:
        return data
    if report.when == "call":
        result: dict[str, Any] = item.stash.get(RESULT, {})
        data.update(result)
    if report.when == "teardown" and LATE in item.stash:
        data["late"] = item.stash[LATE]
        del item.stash[LATE]
    if report.failed and place is not None:
        from pytest_celerypool.judge import may_disagree

        # An error in set-up is of what the test needs under that pool, a worker that cannot start: its tasks never ran.
        data["disagrees"] = report.when != "setup" and may_disagree(item)
        data["why"] = _reason(report)
    notes = item.config.stash.get(NOTES, [])
    if notes:
        data["notes"] = list(notes)
    return data


def _reason(report: pytest.TestReport) -> str:
    """Return the line that says how a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = getattr(crash, "message", "") or report.longreprtext
    return text.strip().partition("\n")[0]


def _reached_contribs_worker(item: pytest.Item) -> bool:
    """Whether a test that is not multiplied has a worker of contrib's in a run that multiplies those."""
    if SETTINGS not in item.config.stash or item.config.stash[SETTINGS].pools is None:
        return False
    from pytest_celerypool.contrib import reached_unmultiplied

    return reached_unmultiplied(item)
