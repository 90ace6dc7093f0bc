from celery import Celery
from celery.result import allow_join_result

app = Celery("reports")


@app.task
def page(number):
    return number


@app.task
def report(number):
    part = page.delay(number)
    with allow_join_result():
        return part.get(timeout=2)
