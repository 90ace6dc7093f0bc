import os
import tempfile

from celery import Celery

app = Celery("shop")

table = tempfile.TemporaryFile()
table.write(b"".join(b"%08d" % (n * 7) for n in range(500)))
table.flush()


@app.task
def price(number):
    return int(os.pread(table.fileno(), 8, number * 8))
