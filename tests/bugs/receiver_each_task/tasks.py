from celery import Celery
from celery.signals import task_success

app = Celery("stats")
sent = []


@app.task
def measure(name):
    def report(sender=None, result=None, **_):
        sent.append((name, result))

    task_success.connect(report, weak=False)
    return name
