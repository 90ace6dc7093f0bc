import threading
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager

from celery import Celery

app = Celery("ledger")


class Ledger:
    def __init__(self):
        self.balances = defaultdict(int)
        self.locks = defaultdict(threading.Lock)

    @contextmanager
    def holding(self, *names):
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(self.locks[name])
                time.sleep(0.15)  # audit
            yield self.balances


ledger = Ledger()


@app.task
def transfer(source, target, amount):
    with ledger.holding(source, target) as balances:
        balances[source] -= amount
        balances[target] += amount
    return amount
