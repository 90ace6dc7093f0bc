import re

from celery import Celery

app = Celery("forms")

WORDS = re.compile(r"^(\w+\s?)*$")


def valid(text):
    return WORDS.match(text) is not None


@app.task
def check(texts):
    return [text for text in texts if valid(text)]
