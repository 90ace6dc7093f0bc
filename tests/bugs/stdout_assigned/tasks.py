import io
import sys
import time

from celery import Celery

app = Celery("legacy")


def main(name):
    for _ in range(3):
        print(name)
        time.sleep(0.04)


@app.task
def run_main(name, nap):
    time.sleep(nap)
    out = io.StringIO()
    before, sys.stdout = sys.stdout, out
    try:
        main(name)
        return out.getvalue().split()
    finally:
        sys.stdout = before
