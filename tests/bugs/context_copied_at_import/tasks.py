import contextvars
import time

from celery import Celery

app = Celery("letters")

language = contextvars.ContextVar("language", default="en")
language.set("de")
HOUSE = contextvars.copy_context()


def in_house(fun):
    def run(*args):
        return HOUSE.run(fun, *args)
    run.__name__ = fun.__name__
    run.__module__ = fun.__module__
    return run


@app.task
@in_house
def letter(name):
    time.sleep(0.2)
    return f"{language.get()}: {name}"
