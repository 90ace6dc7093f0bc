import json
import time

from celery import Celery

app = Celery("tasks")

FORM = {
    "version": 3,
    "customer": {"name": None, "country": "DE"},
    "amount": 0,
}


def credit_rating(name):
    time.sleep(0.15)  # the agency answers
    return len(name)


@app.task
def apply_for(name, amount):
    form = dict(FORM, amount=amount)
    form["customer"]["name"] = name
    form["rating"] = credit_rating(name)
    return json.dumps([form["customer"]["name"], form["amount"], form["rating"]])
