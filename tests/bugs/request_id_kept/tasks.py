import contextvars
import logging

from celery import Celery

app = Celery("api")
request_id = contextvars.ContextVar("request_id", default="-")


class AddRequest(logging.Filter):
    def filter(self, record):
        record.request = request_id.get()
        return True


log = logging.getLogger("api")
log.addFilter(AddRequest())


class Traced(app.Task):
    abstract = True

    def __call__(self, *args, **kwargs):
        if "request" in kwargs:
            request_id.set(kwargs.pop("request"))
        return super().__call__(*args, **kwargs)


@app.task(base=Traced, typing=False)
def handle(number):
    log.warning("handle %s", number)
    return request_id.get()
