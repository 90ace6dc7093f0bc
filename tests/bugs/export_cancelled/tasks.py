import os
import time

from celery import Celery

app = Celery("exports")


@app.task
def export(rows):
    with open(os.path.join(os.environ["CASE_DIR"], "export.csv"), "w") as file:
        for row in range(rows):
            file.write(f"{row}\n")
            time.sleep(0.1)
