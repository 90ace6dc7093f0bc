import os
import signal
import subprocess
import sys

from celery import Celery
from celery.exceptions import Ignore, Reject

app = Celery("caught")


def main(arguments):
    if not arguments:
        sys.exit(2)
    return len(arguments)


@app.task
def script(arguments):
    try:
        return main(arguments)
    except SystemExit as exc:
        return f"status {exc.code}"


@app.task
def child(status):
    pid = os.fork()
    if pid == 0:
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@app.task
def stopped(seconds):
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    os.kill(process.pid, signal.SIGTERM)
    os.kill(os.getpid(), 0)
    return process.wait()


@app.task
def ignored():
    raise Ignore


@app.task(acks_late=True)
def rejected():
    raise Reject("no", requeue=False)
