import contextvars
import time

from celery import Celery

app = Celery("letters")

language = contextvars.ContextVar("language", default="en")
tone = contextvars.ContextVar("tone")
HOUSE = contextvars.copy_context()
HOUSE.run(language.set, "de")


def in_house(fun):
    def run(*args):
        return HOUSE.copy().run(fun, *args)
    run.__name__ = fun.__name__
    run.__module__ = fun.__module__
    return run


@app.task
@in_house
def letter(name, how):
    tone.set(how)
    time.sleep(0.2)
    return f"{language.get()}, {tone.get()}: {name}"
