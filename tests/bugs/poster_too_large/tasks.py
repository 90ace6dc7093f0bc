import time

from celery import Celery

app = Celery("raster")


def canvas(width, height, depth=4):
    return bytearray(width * height * depth)


@app.task
def blank(width, height):
    time.sleep(0.05)
    return len(canvas(width, height))
