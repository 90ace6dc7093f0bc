import contextlib
import io
import time

from celery import Celery

app = Celery("scripts")


def legacy_report(name):
    for _ in range(3):
        print(name)
        time.sleep(0.05)


@app.task
def run_report(name):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        legacy_report(name)
    return out.getvalue().split()
