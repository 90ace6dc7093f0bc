from celery import Celery

app = Celery("mailing")


@app.task
def mail(to):
    return to
