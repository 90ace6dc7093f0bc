import os
import signal
import time
from pathlib import Path

from celery import Celery
from celery.signals import worker_ready

app = Celery("billing")
folder = Path(os.environ.get("CASE_DIR", "."))
tariffs = {"generation": 0}


def reload_tariffs(signum, frame):
    tariffs["generation"] += 1


@worker_ready.connect
def listen(**kwargs):
    signal.signal(signal.SIGUSR2, reload_tariffs)


@app.task
def publish_tariffs(name):
    (folder / "tariffs.new").write_text(name)


@app.task(acks_late=True, reject_on_worker_lost=True)
def charge(customer):
    with open(folder / "ledger.txt", "a") as ledger:
        ledger.write(f"{customer}\n")
    update = folder / "tariffs.new"
    if update.exists():
        update.unlink()
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.2)
    return (folder / "ledger.txt").read_text().split().count(customer)
