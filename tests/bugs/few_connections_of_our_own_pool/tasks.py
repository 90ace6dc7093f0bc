import queue
import time
from contextlib import contextmanager

from celery import Celery

app = Celery("billing")


class PoolTimeout(Exception):
    pass


class ConnectionPool:
    def __init__(self, size, timeout):
        self.timeout = timeout
        self.free = queue.LifoQueue()
        for number in range(size):
            self.free.put(f"connection-{number}")

    @contextmanager
    def connection(self):
        try:
            conn = self.free.get(timeout=self.timeout)
        except queue.Empty:
            raise PoolTimeout("no free connection") from None
        try:
            yield conn
        finally:
            self.free.put(conn)


pool = ConnectionPool(size=2, timeout=0.2)


@app.task
def charge(order):
    with pool.connection():
        time.sleep(0.5)  # slow query
        return order
