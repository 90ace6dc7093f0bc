import codecs
import time

from celery import Celery

app = Celery("export")


class Latin:
    def __init__(self, mark):
        self.mark = mark

    def __enter__(self):
        codecs.register_error("customer", self.replace)
        return self

    def __exit__(self, *exc):
        codecs.register_error("customer", codecs.strict_errors)

    def replace(self, error):
        return self.mark * (error.end - error.start), error.end

    def write(self, text):
        return text.encode("ascii", "customer").decode()


@app.task
def export(mark, *names):
    rows = []
    with Latin(mark) as out:
        for name in names:
            time.sleep(0.15)
            rows.append(out.write(name))
    return rows
