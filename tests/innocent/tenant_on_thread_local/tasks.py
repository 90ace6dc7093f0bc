import contextlib
import threading
import time

from celery import Celery

app = Celery("shop")
_state = threading.local()


@contextlib.contextmanager
def tenant(name):
    previous = getattr(_state, "tenant", None)
    _state.tenant = name
    try:
        yield
    finally:
        if previous is None:
            del _state.tenant
        else:
            _state.tenant = previous


def table(name):
    return f"{_state.tenant}.{name}"


@app.task
def count_orders(name):
    assert not hasattr(_state, "tenant")
    with tenant(name):
        before = table("orders")
        with tenant("audit"):
            time.sleep(0.05)
            log = table("log")
        time.sleep(0.05)
        return [before, log, table("items")]
