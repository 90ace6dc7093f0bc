"""Thousands of waits: what green slots are for, in time and in memory, against processes."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.benchmark

WAITS = 5000
SECONDS = 0.1
GREEN_SLOTS = 500
CHILDREN = 4
ROUNDS = 3

#: What the slow sides are given is a share of the waits: all of them would take minutes and show the same.
SHARE = 20


def test_time(lab: Any, show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 waits of 100 ms under gevent with 500 slots take less than a tenth of what prefork with 2 needs.

    With Celery's defaults each greenlet makes a result backend of its own when its task ends, which costs more
    processor time than all else together. The figure is of workers that share one
    (``result_backend_thread_safe``) and store no result; what the defaults make of it is shown for a share.
    """
    plain, forked = lab.with_agent("gevent", GREEN_SLOTS).client, lab.with_agent("prefork", 2).client
    monkeypatch.setenv("BENCH_SHARED_BACKEND", "1")
    green, bare = lab.with_agent("gevent", GREEN_SLOTS).client, lab.bare("gevent", GREEN_SLOTS).client
    for client in (green, bare, plain):
        client.makespan_unheard(GREEN_SLOTS, SECONDS)  # every slot has run
    mine, theirs, default, prefork = [], [], [], []
    for _ in range(ROUNDS):
        mine.append(green.makespan_unheard(WAITS, SECONDS))
        theirs.append(bare.makespan_unheard(WAITS, SECONDS))
        default.append(SHARE * plain.makespan_unheard(WAITS // SHARE, SECONDS))
        prefork.append(SHARE * forked.makespan(WAITS // SHARE, SECONDS))
    ideal = WAITS * SECONDS / GREEN_SLOTS
    gevent = show.Figures(f"gevent with {GREEN_SLOTS} slots", mine, "s")
    processes = show.Figures(f"prefork with 2 slots, {WAITS // SHARE} waits times {SHARE}", prefork, "s")
    show(
        f"{WAITS} waits of {SECONDS:g} s",
        f"{processes.median / gevent.median:.0f} times faster than prefork, {gevent.median / ideal:.1f} times the "
        f"ideal of {ideal:g} s",
        "at least 10 times faster than prefork",
        gevent,
        show.Figures("the same, bare worker", theirs, "s"),
        show.Figures(f"gevent with Celery's own backends, {WAITS // SHARE} waits times {SHARE}", default, "s"),
        processes,
    )
    assert processes.median / gevent.median >= 10


def test_memory(lab: Any, show: Any) -> None:
    """A slot of gevent uses less than a tenth of the memory of a slot of prefork, the whole worker divided up."""
    forked = lab.with_agent("prefork", CHILDREN)
    green = lab.with_agent("gevent", GREEN_SLOTS)
    idle = green.launched.memory()
    forked_slot = _in_flight(forked, CHILDREN) / CHILDREN
    green_worker = _in_flight(green, GREEN_SLOTS)
    child = [psutil.Process(pid).memory_full_info().uss / 2**20 for pid in forked.launched.processes()[1:]]
    show(
        "memory a slot, all slots busy, unique set size of the worker's processes divided by its slots",
        f"prefork {forked_slot / (green_worker / GREEN_SLOTS):.0f} times gevent",
        "at least 10",
        show.Figures(f"prefork with {CHILDREN} slots", [forked_slot / 2**20], "MiB a slot"),
        show.Figures("a child of prefork alone", child, "MiB"),
        show.Figures(f"gevent with {GREEN_SLOTS} slots", [green_worker / GREEN_SLOTS / 2**20], "MiB a slot"),
        show.Figures("a further greenlet of gevent alone", [(green_worker - idle) / GREEN_SLOTS / 2**20], "MiB"),
    )
    assert forked_slot / (green_worker / GREEN_SLOTS) >= 10


def _in_flight(worker: Any, slots: int) -> float:
    """Return the memory of a worker in bytes while every slot is busy."""
    worker.client.makespan(slots, SECONDS)  # every slot has run once, so that lazy imports are done
    started = 0

    def all_started() -> bool:
        nonlocal started
        started += sum(record["e"] == "start" for record in worker.launched.reader.read())
        return started == 2 * slots

    worker.client.stage("wait", slots, 30.0)
    worker.client.hand_over()
    worker.client.until(all_started, "all slots to be busy")
    return worker.launched.memory()
