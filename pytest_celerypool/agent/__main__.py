"""Entry point of a subprocess worker: install the agent, then become Celery's own main.

``python -m pytest_celerypool.agent CONFIG.json -A proj worker -P gevent …``: the first argument is ours, the
rest is a real ``celery`` command line.

Until Celery has patched for gevent or eventlet nothing may import ``threading``, ``socket`` or ``ssl``:
Celery's own main keeps that order, and so does this module.
"""

import json
import os
import sys

from pytest_celerypool.agent import originals  # noqa: F401 - for its moment: before anything is patched
from pytest_celerypool.agent.stacks import StackWriter


def main() -> None:
    """Run ``celery`` with the agent installed; leaves by :exc:`SystemExit`, as Celery's main does."""
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    # From here on, so that a worker that hangs while it imports can say where.
    stacks = StackWriter(config["folder"])
    stacks.register()
    sys.argv = ["celery", *sys.argv[2:]]
    known = set(sys.path)
    sys.path[:0] = [entry for entry in config["path"] if entry not in known]
    if config["custom_pool"]:
        os.environ["CELERY_CUSTOM_WORKER_POOL"] = config["custom_pool"]
    if config["pool"] == "eventlet":
        # eventlet warns on import that it is deprecated; the docs say it once, the log of every worker need not.
        import warnings

        warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

    import celery

    try:
        celery.maybe_patch_concurrency()
    except ModuleNotFoundError as exc:
        # Of Celery's own pools nothing is imported that was not looked for before.
        with open(os.path.join(config["folder"], "lacks"), "w", encoding="utf-8") as file:
            file.write(exc.name or "")
        raise

    if config["green"]:
        # What waits cooperatively leaves the thread to the hub.
        import greenlet

        stacks.register([greenlet.getcurrent()])

    from pytest_celerypool.agent import install

    install.install(config, stacks)

    from celery.__main__ import main as celery_main

    celery_main()


if __name__ == "__main__":
    main()
