import argparse
import logging
import os
import tempfile
import time

from celery import Celery
from celery.signals import task_success

app = Celery("cli")
tempfile.tempdir = os.environ["CASE_DIR"]
before = logging.getLogRecordFactory()


def factory(*args, **kwargs):
    record = before(*args, **kwargs)
    record.shop = "main"
    return record


logging.setLogRecordFactory(factory)
done = []


@task_success.connect
def note(sender=None, **_):
    done.append(sender)
    del done[:]


def main(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("--month", type=int)
    time.sleep(0.05)
    return parser.parse_args(argv).month


@app.task
def monthly(month):
    def local(sender=None, **_):
        return None

    task_success.connect(local, weak=False)
    try:
        with tempfile.NamedTemporaryFile() as file:
            assert file.name
        return main([f"--month={month}"])
    finally:
        task_success.disconnect(local)
