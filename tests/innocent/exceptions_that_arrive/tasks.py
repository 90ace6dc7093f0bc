import json

from celery import Celery

app = Celery("errors")


class ApiError(Exception):
    def __init__(self, code, body=""):
        super().__init__(code, body)
        self.code, self.body = code, body


class Api:
    class Gone(LookupError):
        pass


@app.task
def call(code):
    raise ApiError(code, "oops")


@app.task
def look(key):
    raise Api.Gone(key)


@app.task
def divide(a, b):
    return a / b


@app.task(ignore_result=True)
def quiet(text):
    json.loads(text)
