import collections
import contextlib
import threading
import time

from celery import Celery

app = Celery("ledgers_in_use")


class OpenFiles:
    """Keeps some files open, and closes the oldest of those that nobody uses."""

    def __init__(self, limit):
        self.limit = limit
        self.files = collections.OrderedDict()
        self.users = collections.Counter()
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, path):
        with self.lock:
            if path not in self.files:
                idle = [p for p in self.files if not self.users[p]]
                for old in idle[: max(0, len(self.files) - self.limit + 1)]:
                    self.files.pop(old).close()
                    del self.users[old]
                self.files[path] = open(path, "a")
            self.users[path] += 1
            handle = self.files[path]
        try:
            yield handle
        finally:
            with self.lock:
                self.users[path] -= 1


ledgers = OpenFiles(limit=1)


@app.task
def enter(path, amount):
    with ledgers(path) as ledger:
        time.sleep(0.2)
        ledger.write(f"{amount}\n")
        ledger.flush()
    return amount
