import os
import tempfile
import time

from celery import Celery

app = Celery("reports")


@app.task
def report(text):
    with tempfile.NamedTemporaryFile("w+", prefix=f"report-{os.getpid()}-") as file:
        file.write(text)
        file.flush()
        time.sleep(0.1)
        with open(file.name) as again:
            return again.read()


@app.task
def log(text):
    with open(os.path.join(os.environ["CASE_DIR"], f"worker-{os.getpid()}.log"), "a") as file:
        file.write(text)
        time.sleep(0.05)
    return text
