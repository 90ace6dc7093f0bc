import subprocess

import psutil
from celery import Celery

app = Celery("documents")


def end_helpers():
    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def office(command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, timeout=8).returncode


@app.task
def convert(command):
    try:
        return office(command)
    finally:
        end_helpers()
