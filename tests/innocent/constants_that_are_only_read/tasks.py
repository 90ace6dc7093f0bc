import time

from celery import Celery

app = Celery("tax")
RATES = {"de": 19, "fr": 20}
DEFAULTS = {"country": "de"}


@app.task
def tax(country, amount):
    options = dict(DEFAULTS)
    options["country"] = country
    time.sleep(0.1)
    return RATES[options["country"]] * amount
