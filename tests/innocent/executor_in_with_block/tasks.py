from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("thumbnails")


def resize(width):
    return width // 2


@app.task
def thumbnails(widths):
    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(resize, widths))
