import itertools
import time
import uuid

from celery import Celery, Task

app = Celery("bank")


class BankTask(Task):
    """Bank requests carry a reference: which process, and its how manyth request."""

    abstract = True
    origin = uuid.uuid4().hex[:8]
    serial = itertools.count(1)

    @property
    def reference(self):
        return f"{self.origin}-{next(self.serial):06}"


@app.task(base=BankTask, bind=True)
def debit(self, account, amount):
    reference = self.reference
    time.sleep(0.1)
    return [account, amount, reference]
