import collections
import contextlib
import threading
import time

from celery import Celery

app = Celery("two_accounts")

locks = collections.defaultdict(threading.Lock)


@contextlib.contextmanager
def holding(account, patience=3):
    if not locks[account].acquire(timeout=patience):
        raise TimeoutError(f"{account} is busy")
    try:
        yield
    finally:
        locks[account].release()


def authorise(amount):
    time.sleep(0.2)
    return amount


@app.task
def transfer(source, target, amount):
    with contextlib.ExitStack() as held:
        held.enter_context(holding(source))
        approved = authorise(amount)
        held.enter_context(holding(target))
        return [source, -approved, target, approved]
