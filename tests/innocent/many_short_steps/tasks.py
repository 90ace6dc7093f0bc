import time

from celery import Celery

app = Celery("imports")


@app.task
def load(rows):
    done = 0
    for _ in range(rows):
        end = time.process_time() + 0.005
        while time.process_time() < end:
            done += 1
        time.sleep(0)
    return done > 0
