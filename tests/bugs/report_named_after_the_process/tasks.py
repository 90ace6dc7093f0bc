import os
import time

from celery import Celery

app = Celery("reports")


@app.task
def report(text):
    path = os.path.join(os.environ["CASE_DIR"], f"report-{os.getpid()}.txt")
    with open(path, "w") as file:
        file.write(text)
    time.sleep(0.15)
    with open(path) as file:
        return file.read()
