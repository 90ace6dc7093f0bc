import contextlib
import threading
import time

from celery import Celery

app = Celery("orders")


class PoolError(Exception):
    pass


class Pool:
    def __init__(self, size):
        self.free, self.lock = list(range(size)), threading.Lock()

    @contextlib.contextmanager
    def connection(self):
        with self.lock:
            if not self.free:
                raise PoolError("connection pool exhausted")
            one = self.free.pop()
        try:
            yield one
        finally:
            with self.lock:
                self.free.append(one)


pool = Pool(2)


@app.task
def order(number):
    with pool.connection():
        time.sleep(0.2)  # asks the database
    return number
