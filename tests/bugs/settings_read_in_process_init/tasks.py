from celery import Celery
from celery.signals import worker_process_init

app = Celery("taxes")
settings = {}


def load():
    return {"rate": 0.19}


def configure(**_):
    settings.update(load())


worker_process_init.connect(configure)


@app.task
def tax(amount):
    return amount * settings.get("rate", 0)
