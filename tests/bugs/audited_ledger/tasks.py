import logging
import threading
import time

from celery import Celery

app = Celery("ledger")
log = logging.getLogger("ledger")
log.setLevel(logging.INFO)
log.propagate = False
entries = []
entries_lock = threading.RLock()


class Audit(logging.Handler):
    def emit(self, record):
        line = self.format(record)
        time.sleep(0.2)
        if not entries_lock.acquire(timeout=3):
            raise TimeoutError("ledger is busy")
        try:
            entries.append(line)
        finally:
            entries_lock.release()


log.addHandler(Audit())


@app.task
def post(amount):
    with entries_lock:
        time.sleep(0.3)
        log.info("posted %s", amount)


@app.task
def view(user):
    log.info("%s had a look", user)
