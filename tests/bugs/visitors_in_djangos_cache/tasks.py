"""Doors that a guard opens for a while; who is let in is asked very often, hence the cache."""
import time

from celery import Celery
from django.conf import settings

if not settings.configured:
    settings.configure(SECRET_KEY="x", LOGGING_CONFIG=None)

from django.core.cache import cache

app = Celery("doors")


@app.task
def open_for(door, visitor, seconds=60):
    cache.set(f"door:{door}:{visitor}", "open", seconds)


@app.task
def may_enter(door, visitor):
    time.sleep(0.1)             # badge reader
    return cache.get(f"door:{door}:{visitor}") == "open"
