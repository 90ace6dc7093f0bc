from celery import Celery
from celery.signals import worker_process_init

app = Celery("invoices")


class Store:
    session = None

    @classmethod
    def connect(cls):
        return {"7": "paid"}


@worker_process_init.connect
def open_session(sender=None, **_):
    Store.session = Store.connect()


def state_of(number):
    return Store.session[number]


@app.task
def invoice(number):
    return state_of(number)
