import logging
import logging.config

from celery import Celery

app = Celery("etl")
log = logging.getLogger("etl.rows")


@app.task
def extract(rows):
    logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
    return rows


@app.task
def load(rows):
    log.error("row %s is wrong", rows)
    return log.disabled
