import os

from celery import Celery

app = Celery("jobs")


def wait_for_program(seconds):
    child = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", str(seconds))
    return os.waitid(os.P_PID, child, os.WEXITED).si_status


@app.task
def run_program(seconds):
    return wait_for_program(seconds)


@app.task
def answer():
    return 42
