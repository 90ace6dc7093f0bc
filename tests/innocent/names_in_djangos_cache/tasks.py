"""Names of articles, which are slow to look up; every process fills Django's cache for itself."""
import time

from celery import Celery
from django.conf import settings

if not settings.configured:
    settings.configure(SECRET_KEY="x", LOGGING_CONFIG=None)

from django.core.cache import cache

app = Celery("articles")


def look_up(number):
    time.sleep(0.02)
    return f"article {number}"


@app.task
def name_of(number):
    name = cache.get(f"name:{number}")
    if name is None:
        name = look_up(number)
        cache.set(f"name:{number}", name, 60)
    return name


@app.task
def price_of(number):
    return cache.get_or_set(f"price:{number}", lambda: number * 7, 60)


@app.task
def forget(number):
    """The article is gone, and so is its name: what another process has of it is as old as its time allows."""
    cache.delete(f"name:{number}")
    return number
