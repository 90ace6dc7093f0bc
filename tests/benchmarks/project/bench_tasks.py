"""The application whose tasks the benchmarks run, in workers with the agent and without."""

import os
import time

from celery import Celery, signals
from celery.loaders.app import AppLoader

#: The key of the list to which a slot appends what a task ``in_slot`` cost it: seconds of wall and processor time.
SLOT_TIMES = "slot-times"
#: The key of the list to which the last of many tasks ``wait_unheard`` appends the moment of its end.
ALL_ENDED = "all-ended"


class SlotTimer(AppLoader):
    """Measures a slot from its first signal to its last call, which enclose all that the agent does there."""

    began = None

    def begin(self):
        """Start the clock: called by the first receiver of ``task_prerun``, before the agent's."""
        self.began = time.perf_counter(), time.thread_time()

    def on_process_cleanup(self):
        """Stop the clock: Celery calls this after the receivers of ``task_postrun``."""
        if self.began is not None:
            wall, cpu = time.perf_counter() - self.began[0], time.thread_time() - self.began[1]
            self.began = None
            app.backend.client.rpush(SLOT_TIMES, f"{wall} {cpu}")


app = Celery("bench", loader=SlotTimer)
# By default every thread, and so every greenlet, that ends a task makes a result backend of its own.
app.conf.result_backend_thread_safe = os.environ.get("BENCH_SHARED_BACKEND") == "1"


def on_prerun(sender, **_):
    """Start the clock; while tasks overlap this would be a bug of its own, and be looked at as one."""
    if sender.name == "bench_tasks.in_slot":
        app.loader.begin()


if os.environ.get("BENCH_SLOT") == "1":
    signals.task_prerun.connect(on_prerun)


@app.task
def add(x, y):
    """Return the sum: a task that costs nothing."""
    return x + y


@app.task
def in_slot():
    """Do nothing, and have the slot measured."""


@app.task
def wait(seconds):
    """Wait as tasks wait for others, and return the moment of the end in seconds of the system's own clock."""
    time.sleep(seconds)
    return time.monotonic()


@app.task(ignore_result=True)
def wait_unheard(seconds, count):
    """Wait, and store nothing; the last of `count` says when it ended. For pools of one process."""
    time.sleep(seconds)
    now = time.monotonic()
    unheard.append(now)
    if len(unheard) == count:
        unheard.clear()
        app.backend.client.rpush(ALL_ENDED, now)


unheard = []
