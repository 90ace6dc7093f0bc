from celery import Celery

app = Celery("users")


class User:
    def __init__(self, name):
        self.name = name


@app.task
def find(name):
    return User(name)
