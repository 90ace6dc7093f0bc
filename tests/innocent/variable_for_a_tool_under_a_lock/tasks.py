import os
import subprocess
import threading
import time

from celery import Celery

app = Celery("scans")
ENVIRONMENT = threading.Lock()


@app.task
def scan(name):
    """The library starts the tool itself, and tells it the profile by a variable only."""
    with ENVIRONMENT:
        os.environ["SCAN_PROFILE"] = name
        try:
            return subprocess.run("echo $SCAN_PROFILE", shell=True, capture_output=True, text=True).stdout.strip()
        finally:
            del os.environ["SCAN_PROFILE"]


@app.task
def count():
    for _ in range(5):
        time.sleep(0.01)
        os.environ.get("HOME")
    return 5
