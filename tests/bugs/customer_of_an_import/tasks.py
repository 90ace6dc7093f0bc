import time

from celery import Celery, Task

app = Celery("customer_import")


class CustomerTask(Task):
    customer = None

    def before_start(self, task_id, args, kwargs):
        self.customer = args[0].upper()

    def label(self, row):
        return f"{self.customer}-{row:03d}"


@app.task(base=CustomerTask, bind=True)
def import_rows(self, customer, rows):
    labels = []
    for row in range(rows):
        time.sleep(0.1)
        labels.append(self.label(row))
    return labels
