import time

from celery import Celery

from exporters import Exporter

app = Celery("tasks")


@app.task
def enable(suffix, separator):
    class Enabled(Exporter, suffix=suffix):
        pass

    Enabled.separator = separator
    return suffix


@app.task
def export(suffix, row):
    time.sleep(0.1)  # the row is fetched
    return Exporter.of(suffix).export(row)
