from celery import Celery

app = Celery("parser")


def load(text):
    from parsing import parse

    return parse(text)


@app.task
def words(text):
    return load(text)
