"""Several workers of one slot each, against one worker with as many."""

import os
import time

from promised import compute, wait

PROCESSORS = os.cpu_count() or 1
SOLOS = max(2, PROCESSORS)

#: What a task is, and how many there are for each slot.
LOADS = {"waits of 100 ms": (wait, 0.1, 8), "computations of 30 ms": (compute, 30, 8)}

ROUNDS = 2

#: A worker that has one slot must not hoard what another could do.
FAIR = ["--prefetch-multiplier=1"]

WORKERS = {
    "prefork": {"pool": "prefork", "queues": ["prefork"], "concurrency": SOLOS, "options": FAIR},
    "one": {"pool": "solo", "queues": ["one"], "options": FAIR},
    **{f"solo-{number}": {"pool": "solo", "queues": ["several"], "options": FAIR} for number in range(SOLOS)},
}


def test_several_solos(celery_pool_cluster, measured):
    """Several solo workers on one queue do as much as one worker of prefork with as many children."""
    workers = celery_pool_cluster(WORKERS)

    def run(task, argument, count, queue):
        """The tasks a second of the workers of a queue."""
        before, began = len(workers.spans), time.monotonic()
        for _ in range(count):
            task.apply_async((argument,), queue=queue)
        workers.drain(60)
        spans = workers.spans[before:]
        assert {span.worker for span in spans} == {name for name, each in WORKERS.items() if each["queues"] == [queue]}
        return count / (max(span.ended for span in spans) - began)

    for load, (task, argument, share) in LOADS.items():
        rounds = [
            {queue: run(task, argument, share * SOLOS, queue) for queue in ("one", "several", "prefork")}
            for _ in range(ROUNDS)
        ]
        rates = {queue: max(each[queue] for each in rounds) for queue in ("one", "several", "prefork")}
        measured(f"{load}, one solo worker", "solo", rates["one"], "a second")
        measured(f"{load}, {SOLOS} solo workers, or children", "solo", rates["several"], "a second")
        measured(f"{load}, {SOLOS} solo workers, or children", "prefork", rates["prefork"], "a second")
        assert rates["several"] >= 0.7 * rates["prefork"]
        if task is wait:
            assert rates["several"] >= 0.7 * SOLOS * rates["one"]
