import sys
import time

from celery import Celery

app = Celery("reports")


def main():
    time.sleep(0.1)  # asks for what is there
    return sys.argv[-1]


@app.task
def monthly(month):
    saved = sys.argv
    sys.argv = ["report", month]
    try:
        return main()
    finally:
        sys.argv = saved
