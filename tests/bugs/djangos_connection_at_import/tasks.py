"""Article codes are made by the warehouse database, through Django's connection to it."""
import time

from celery import Celery
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="x",
        LOGGING_CONFIG=None,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )

from django.db import connections

app = Celery("warehouse")

warehouse = connections["default"]


@app.task
def article_code(name, shelf):
    time.sleep(0.08)
    with warehouse.cursor() as cursor:
        cursor.execute("SELECT upper(substr(%s, 1, 3)) || '-' || %s", [name, shelf])
        (code,) = cursor.fetchone()
    return code
