"""A load of tasks that compute and tasks that wait: one worker for all, or a queue and a worker for each kind."""

import os
import time

import pytest
from promised import compute, wait

PROCESSORS = os.cpu_count() or 1
GREENLETS = 100

WAITS, SECONDS = 12 * PROCESSORS, 0.2
COMPUTATIONS, MILLISECONDS = 8 * PROCESSORS, 40

ROUNDS = 2

WORKERS = {
    "computing": {"pool": "prefork", "queues": ["computing"], "concurrency": PROCESSORS},
    "waiting": {"pool": "gevent", "queues": ["waiting"], "concurrency": GREENLETS},
    "prefork": {"pool": "prefork", "queues": ["prefork"], "concurrency": PROCESSORS},
    "gevent": {"pool": "gevent", "queues": ["gevent"], "concurrency": GREENLETS},
}

#: The queues for tasks that compute and for tasks that wait, and so the workers, of each arrangement.
ARRANGEMENTS = {
    "prefork and gevent": ("computing", "waiting"),
    "prefork": ("prefork", "prefork"),
    "gevent": ("gevent", "gevent"),
}


@pytest.mark.slow
@pytest.mark.celery_allow("hub-busy", pools=["gevent"], reason="what computing does to a hub is what is shown")
def test_mixed_load(celery_pool_cluster, measured):
    """A mixed load does best on two queues with a worker each, prefork for what computes and gevent for what waits."""
    workers = celery_pool_cluster(WORKERS)

    def run(computing, waiting):
        """The seconds until all tasks have ended, and the longest that one spent in its slot to wait."""
        before, began = len(workers.spans), time.monotonic()
        for number in range(WAITS):
            if number < COMPUTATIONS:
                compute.apply_async((MILLISECONDS,), queue=computing)
            wait.apply_async((SECONDS,), queue=waiting)
        workers.drain(60)
        spans = workers.spans[before:]
        assert {span.worker for span in spans} == {computing, waiting}
        waited = max(span.runtime for span in spans if span.task == wait.name)
        return max(span.ended for span in spans) - began, waited

    rounds = [{name: run(*queues) for name, queues in ARRANGEMENTS.items()} for _ in range(ROUNDS)]
    seconds = {name: min(each[name][0] for each in rounds) for name in ARRANGEMENTS}
    waited = {name: min(each[name][1] for each in rounds) for name in ARRANGEMENTS}
    for name in ARRANGEMENTS:
        what = f"{COMPUTATIONS} computations of {MILLISECONDS} ms and {WAITS} waits of {SECONDS:g} s, all of them"
        measured(what, name, seconds[name], "s")
        measured(f"the longest that one of the waits of {SECONDS:g} s took", name, waited[name], "s")
    best = seconds.pop("prefork and gevent")
    assert best < min(seconds.values())
    assert best < seconds["prefork"] / 1.5
    assert waited["prefork and gevent"] < waited["gevent"]
