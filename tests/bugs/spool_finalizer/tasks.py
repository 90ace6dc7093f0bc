import threading
import time
import weakref

from celery import Celery

app = Celery("spool_finalizer")


def write_down(path, rows):
    with open(path, "a") as out:
        out.writelines(f"{row}\n" for row in rows)


class Spool:
    _all, _guard = {}, threading.Lock()

    def __init__(self, path):
        self.rows = []
        self._written = weakref.finalize(self, write_down, path, self.rows)

    @classmethod
    def at(cls, path):
        with cls._guard:
            return cls._all.setdefault(path, None) or cls._all.__setitem__(path, cls(path)) or cls._all[path]


@app.task
def track(path, event):
    Spool.at(path).rows.append(event)
    time.sleep(0.1)
    return event
