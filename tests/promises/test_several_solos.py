"""Several workers of one slot each, against one worker with as many."""

import os

import pytest
from figures import average_at_once, slowed
from promised import compute, wait

PROCESSORS = os.cpu_count() or 1
SOLOS = max(2, PROCESSORS)

#: What a task is, and how many seconds one takes in a slot that has a processor.
LOADS = {"waits of 100 ms": (wait, 0.1, 0.1), "computations of 30 ms": (compute, 30, 0.03)}

#: Tasks for each slot.
SHARE = 8

ROUNDS = 2

#: A worker that has one slot must not hoard what another could do.
FAIR = ["--prefetch-multiplier=1"]

WORKERS = {
    "prefork": {"pool": "prefork", "queues": ["prefork"], "concurrency": SOLOS, "options": FAIR},
    "one": {"pool": "solo", "queues": ["one"], "options": FAIR},
    **{f"solo-{number}": {"pool": "solo", "queues": ["several"], "options": FAIR} for number in range(SOLOS)},
}


@pytest.mark.slow
def test_several_solos(celery_pool_cluster, measured):
    """Several solo workers on one queue do as much as one worker of prefork with as many children."""
    workers = celery_pool_cluster(WORKERS)

    def run(queue, task, argument):
        """The executions of a load by the workers of a queue."""
        before = len(workers.spans)
        for _ in range(SHARE * SOLOS):
            task.apply_async((argument,), queue=queue)
        workers.drain(60)
        spans = workers.spans[before:]
        assert {span.worker for span in spans} == {name for name, each in WORKERS.items() if each["queues"] == [queue]}
        return spans

    def gain(queue, task, argument, seconds):
        """How many times faster than one slot the workers of a queue are where nobody else needs the processors."""
        rounds = [run(queue, task, argument) for _ in range(ROUNDS)]
        return max(average_at_once(spans) / slowed(spans, seconds) for spans in rounds)

    for load, (task, argument, seconds) in LOADS.items():
        gains = {queue: gain(queue, task, argument, seconds) for queue in ("one", "several", "prefork")}
        measured(f"{load}, one solo worker: times faster than one slot", "solo", gains["one"])
        measured(f"{load}, {SOLOS} solo workers, or children: times faster than one slot", "solo", gains["several"])
        measured(f"{load}, {SOLOS} solo workers, or children: times faster than one slot", "prefork", gains["prefork"])
        assert gains["several"] >= 0.7 * gains["prefork"]
        assert gains["several"] >= 0.7 * SOLOS * gains["one"]
