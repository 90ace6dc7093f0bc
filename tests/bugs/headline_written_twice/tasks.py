import csv
import os
import tempfile
import threading

from celery import Celery

app = Celery("ledger")
lock = threading.Lock()

LEDGER = tempfile.TemporaryFile("w+", newline="")
csv.writer(LEDGER).writerow(["article", "amount"])


@app.task
def enter(article, amount):
    """Writes a line; says how many headlines the ledger has."""
    with lock:
        csv.writer(LEDGER).writerow([article, amount])
        LEDGER.flush()
        return os.pread(LEDGER.fileno(), 65536, 0).count(b"article,amount")
