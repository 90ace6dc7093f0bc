import time

from celery import Celery

app = Celery("crunch")


@app.task
def simulate(steps):
    state = 1
    for _ in range(steps):
        time.sleep(0.1)
        state = state * 1103515245 % 2147483648
    return state


def submit(steps, ceiling=1):
    """What the views call: nobody may hold a slot longer than the ceiling."""
    return simulate.apply_async((steps,), time_limit=ceiling)
