import importlib

from celery import Celery

import tariffs

app = Celery("shipping")


@app.task
def refresh():
    importlib.reload(tariffs)
    return sorted(tariffs.RATES)


@app.task
def quote(country, kilos):
    return tariffs.RATES[country] * kilos
