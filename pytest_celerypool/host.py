"""Entry point of a host, the interpreter that runs the ``inprocess`` tests of a pool that pytest's own cannot hold.

``python -m pytest_celerypool.host CONFIG.json`` is how pytest starts one, and talks to it from then on.
``python -m pytest_celerypool.host gevent ARGS…`` is for people: pytest itself, with these arguments, in such an
interpreter, where a debugger reaches the tests.

Until gevent or eventlet has patched nothing may import ``threading``, ``socket`` or ``ssl``: what needs
those is imported afterwards.
"""

import io
import json
import os
import sys
from _thread import start_new_thread  # the one that no library has patched

from pytest_celerypool.agent import originals

NAMES = ("gevent", "eventlet", "prefork")

_BEAT_S = 1.0


def main() -> int:
    """Be a host; returns the exit status."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(f"usage: python -m pytest_celerypool.host {'|'.join(NAMES)} PYTEST_ARGUMENTS...", file=sys.stderr)
        return 4
    return _alone(sys.argv[1], sys.argv[2:]) if sys.argv[1] in NAMES else _serve(sys.argv[1])


def _alone(name: str, arguments: list[str]) -> int:
    patch(name)
    from types import ModuleType

    import pytest

    # Nothing else tells a process that may hold prefork from any other.
    mark = ModuleType(f"celerypool-host-{name}")
    # This module had to be imported before pytest could look at it, and has no assertion to rewrite.
    quiet = ["-W", "ignore:Module already imported so cannot be rewritten; pytest_celerypool"]
    return int(pytest.main([*quiet, *arguments], plugins=[mark]))


def _serve(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    sys.path[:] = config["path"]
    patch(config["name"])
    if config["heartbeat"]:
        start_new_thread(_beat, (config["heartbeat"],))
    from pytest_celerypool.serving import serve

    return serve(config["name"], config["fd"], config["log"])


def patch(name: str) -> None:
    """Patch this process for a pool; for prefork there is nothing to do.

    Not by Celery's own ``maybe_patch_concurrency``: importing Celery imports ``kombu.utils.functional`` first, which
    then keeps the ``sleep`` that blocks (seen with Celery 5.7 and kombu 5.7).
    """
    if name == "gevent":
        from gevent import monkey

        monkey.patch_all()
    elif name == "eventlet":
        _patch_quietly()


def _patch_quietly() -> None:
    """Patch with eventlet, without what it says to everybody: the docs say it once, every run need not."""
    import warnings

    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    shown, sys.stderr = sys.stderr, io.StringIO()
    try:
        import eventlet

        eventlet.monkey_patch()
    finally:
        text, sys.stderr = sys.stderr.getvalue(), shown
        # They are the interpreter's own, made before the first line of Python ran.
        lines = [line for line in text.splitlines(keepends=True) if "RLock(s) were not greened" not in line]
        sys.stderr.writelines(lines)


def _beat(path: str) -> None:
    """Show that the interpreter runs, from a thread that none of its greenlets can hold up."""
    while True:
        originals.sleep(_BEAT_S)
        try:
            os.utime(path)
        except OSError:  # the run's folder is gone, and so is whoever looked
            return


if __name__ == "__main__":
    sys.exit(main())
