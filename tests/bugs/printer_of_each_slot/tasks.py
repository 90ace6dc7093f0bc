import logging

from celery import Celery

app = Celery("printing")
log = logging.getLogger("printing")
log.setLevel(logging.INFO)

PRINTERS = ["laser-1", "laser-2"]


class Slot(logging.Filter):
    def filter(self, record):
        record.printer = PRINTERS[int(record.threadName.rpartition("_")[2]) % len(PRINTERS)]
        return True


log.addFilter(Slot())


@app.task
def print_page(number):
    log.info("page %s", number)
    return number
