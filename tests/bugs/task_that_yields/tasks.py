from celery import Celery

app = Celery("batches")


@app.task(ignore_result=True)
def import_rows(rows):
    for row in range(rows):
        yield row * 2
