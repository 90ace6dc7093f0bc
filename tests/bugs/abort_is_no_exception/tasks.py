from celery import Celery

app = Celery("builds")


class Abort(BaseException):
    pass


@app.task
def build(target):
    if target == "all":
        raise Abort(target)
    return target
