import time

from celery import Celery

from readers import WideFields

app = Celery("tasks")


def lines_of(count, pause):
    for number in range(count):
        time.sleep(pause)  # the next block of the download
        yield "%d,%s\n" % (number, "x" * 200_000)


@app.task
def longest(count, pause):
    with WideFields() as wide:
        return max(len(text) for _, text in wide.rows(lines_of(count, pause)))
