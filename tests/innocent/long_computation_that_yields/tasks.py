import time

from celery import Celery

app = Celery("simulation")


def steps(seconds):
    end = time.process_time() + seconds
    count = 0
    while time.process_time() < end:
        count += 1
        if count % 2000 == 0:
            yield count


@app.task
def simulate():
    for _ in steps(0.4):
        time.sleep(0)  # lets the others go on
    return True


@app.task
def ping():
    return "pong"
