import collections
import json
import os
import weakref

from celery import Celery

app = Celery("usage")


class Usage:
    """Counts in memory and writes the totals once, when the process is done."""

    def __init__(self, folder):
        self.totals = collections.Counter()
        self._closer = weakref.finalize(self, self.save, folder, self.totals)

    @staticmethod
    def save(folder, totals):
        if not totals:
            return
        path = os.path.join(folder, f"usage-{os.getpid()}.json")
        with open(path, "w") as out:
            json.dump(totals, out)

    def count(self, customer, calls):
        self.totals[customer] += calls


usage = Usage(os.environ["CASE_DIR"])


@app.task
def track(customer, calls):
    usage.count(customer, calls)
    return calls
