import csv
import time

from celery import Celery

app = Celery("shop")

SEPARATORS = {"north": ";", "south": "|", "west": ","}


def download(supplier):
    time.sleep(0.1)
    return [SEPARATORS[supplier].join(row) for row in (["sku", "price"], ["A1", "10"])]


@app.task
def read_feed(supplier):
    csv.register_dialect("feed", delimiter=SEPARATORS[supplier])
    try:
        lines = download(supplier)
        return list(csv.DictReader(lines, dialect="feed"))
    finally:
        csv.unregister_dialect("feed")
