import os

from celery import Celery

app = Celery("pictures")


@app.task
def convert(seconds):
    # stands for a program that converts a picture
    return os.system(f"sleep {seconds}")
