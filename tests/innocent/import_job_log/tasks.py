import io
import logging
import logging.handlers
import queue
import time

from celery import Celery

app = Celery("shop")


@app.task
def import_rows(feed):
    records = queue.Queue()
    stream = io.StringIO()
    target = logging.StreamHandler(stream)
    target.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    listener = logging.handlers.QueueListener(records, target)
    log = logging.Logger(f"feed.{feed}", level=logging.DEBUG)
    log.addHandler(logging.handlers.QueueHandler(records))
    listener.start()
    try:
        for row in range(3):
            log.info("%s row %d", feed, row)
            time.sleep(0.03)
    finally:
        listener.stop()
        for handler in log.handlers:
            handler.close()
        target.close()
    return stream.getvalue().splitlines()
