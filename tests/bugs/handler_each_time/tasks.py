import io
import logging

from celery import Celery

app = Celery("mailer")


def get_log():
    log = logging.getLogger("mailer.delivery")
    log.addHandler(logging.StreamHandler(io.StringIO()))
    return log


get_log()


@app.task
def deliver(address):
    get_log().warning("to %s", address)
    return len(logging.getLogger("mailer.delivery").handlers)
