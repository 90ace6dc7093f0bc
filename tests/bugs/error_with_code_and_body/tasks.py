from celery import Celery

app = Celery("api")


class ApiError(Exception):
    def __init__(self, code, body):
        super().__init__(f"{code}: {body}")
        self.code, self.body = code, body


@app.task
def call(path):
    raise ApiError(500, path)
