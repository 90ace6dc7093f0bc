"""Start a worker in this process, run one task, end the worker: by this plugin and by Celery's own, in turn.

``python fresh_worker.py POOL URL ROUNDS`` prints the seconds of each as JSON. It is a process of its own because a
green pool needs one that is patched before anything else is imported.
"""

import json
import sys
import time
import warnings

POOL, URL, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])

if POOL in ("gevent", "eventlet"):
    warnings.filterwarnings("ignore")
    import celery

    celery.maybe_patch_concurrency(["celery", "worker", "-P", POOL])

from celery import Celery  # noqa: E402
from celery.contrib.testing.worker import TestWorkController, start_worker  # noqa: E402

from pytest_celerypool.agent.embedded import EmbeddedWorker  # noqa: E402

BACKEND = "cache+memory://" if URL == "memory://" else URL


def application():
    """Return an application as contrib's fixture ``celery_app`` makes one."""
    made = Celery("fresh", broker=URL, backend=BACKEND, set_as_current=False)
    made.conf.worker_hijack_root_logger = False

    @made.task(name="add", shared=False)
    def add(x, y):
        return x + y

    return made


def ours():
    """Return the seconds of a worker of this plugin's."""
    app = application()
    began = time.perf_counter()
    worker = EmbeddedWorker(app, TestWorkController, pool=POOL, concurrency=1)
    worker.start()
    assert app.tasks["add"].delay(1, 2).get(timeout=30) == 3
    worker.stop()
    return time.perf_counter() - began


def theirs():
    """Return the seconds of contrib's ``celery_worker``, without its ping."""
    app = application()
    began = time.perf_counter()
    with start_worker(app, pool=POOL, perform_ping_check=False):
        assert app.tasks["add"].delay(1, 2).get(timeout=30) == 3
    return time.perf_counter() - began


ours()  # imports and first connections are nobody's
print(json.dumps([[ours(), theirs()] for _ in range(ROUNDS)]))
