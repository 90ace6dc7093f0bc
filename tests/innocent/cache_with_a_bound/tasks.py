import collections
import functools

from celery import Celery

app = Celery("prices")
recent = collections.deque(maxlen=6)
pages = {}


@functools.lru_cache(maxsize=6)
def load(day):
    return bytearray(2 << 20)


@app.task
def price(day):
    recent.append(bytearray(2 << 20))
    return len(load(day))


@app.task
def page(number):
    pages[number] = bytearray(2 << 20)
    while len(pages) > 10:
        pages.pop(next(iter(pages)))
    return number
