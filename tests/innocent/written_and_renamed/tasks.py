import os
import time

from celery import Celery

app = Celery("snapshots")


@app.task
def snapshot(text):
    path = os.path.join(os.environ["CASE_DIR"], f"snapshot-{text}")
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)
    time.sleep(0.1)
    return text
