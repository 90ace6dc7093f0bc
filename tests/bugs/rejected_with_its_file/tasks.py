import json
import os
import tempfile
import time

from celery import Celery
from celery.exceptions import Reject

app = Celery("intake")


class BadRecord(ValueError):
    def __init__(self, message, line, origin):
        super().__init__(message)
        self.line = line
        self.origin = origin  # where to look, still open at the line


@app.task
def load(rows):
    with tempfile.TemporaryFile("w+") as feed:
        feed.write(os.linesep.join(rows))
        feed.seek(0)
        good = 0
        for number, row in enumerate(feed, 1):
            time.sleep(0.01)
            try:
                json.loads(row)
            except ValueError as exc:
                problem = BadRecord(str(exc), number, feed)
                raise Reject(problem, requeue=False)
            good += 1
        return good
