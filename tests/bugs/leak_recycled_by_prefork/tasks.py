from celery import Celery

app = Celery("pdf")
app.conf.worker_max_tasks_per_child = 2
pages = []


@app.task
def convert(number):
    pages.append(number)
    return len(pages)
