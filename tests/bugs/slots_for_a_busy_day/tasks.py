import time

from celery import Celery

app = Celery("rush")

QUIET, BUSY = 5, 50


@app.task(bind=True)
def plan_day(self, expected_orders):
    """Runs at six in the morning; makes room when a busy day is coming."""
    extra = 0
    if expected_orders > BUSY:
        extra = 2
        self.app.control.pool_grow(extra)
    time.sleep(0.2)
    return {"expected": expected_orders, "extra": extra}


@app.task
def pack(order):
    time.sleep(0.3)
    return order * 2
