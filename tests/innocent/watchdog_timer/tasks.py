import logging
import threading
import time

from celery import Celery

app = Celery("shop")

log = logging.getLogger(__name__)


@app.task
def sync_shop(name, seconds):
    watchdog = threading.Timer(30, log.warning, args=("sync of %s is slow", name))
    watchdog.daemon = True
    watchdog.start()
    try:
        time.sleep(seconds)
        return name
    finally:
        watchdog.cancel()
        watchdog.join()
