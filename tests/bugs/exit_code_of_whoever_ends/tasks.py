import os
import time

from celery import Celery

app = Celery("converter")


@app.task
def convert(seconds, quality, noting):
    """Run the converter; its exit code says which quality it reached."""
    script = f"sleep {seconds}; exit {quality}"
    os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)
    time.sleep(noting)  # notes that the job has started
    pid, status = os.wait()
    return os.waitstatus_to_exitcode(status)
