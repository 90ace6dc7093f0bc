import logging

from celery import Celery

app = Celery("shop")
log = logging.getLogger("shop")


@app.task(bind=True)
def order(self, number):
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.order = number
        return record

    logging.setLogRecordFactory(factory)
    log.warning("packed")
    return number
