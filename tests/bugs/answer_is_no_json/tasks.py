import json

from celery import Celery

app = Celery("partners")


@app.task
def parse(text):
    return json.loads(text)
