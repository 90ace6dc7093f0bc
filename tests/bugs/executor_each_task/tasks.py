from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("thumbnails")
executors = []


def resize(width):
    return width // 2


@app.task
def thumbnails(widths):
    executor = ThreadPoolExecutor(2)
    executors.append(executor)
    return list(executor.map(resize, widths))
