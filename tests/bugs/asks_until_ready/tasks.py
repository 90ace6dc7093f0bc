import time

from celery import Celery

app = Celery("printing")


@app.task
def render(number):
    time.sleep(0.8)
    return f"page {number}"


@app.task
def bind(number):
    pages = render.delay(number)
    for _ in range(40):
        if pages.ready():
            return [pages.result]
        time.sleep(0.1)
    raise TimeoutError("the page was not rendered in 4 seconds")
