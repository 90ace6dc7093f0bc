from celery import Celery

app = Celery("matrices", set_as_current=False)
app.conf.update(worker_max_memory_per_child=12_000)


@app.task
def invert(size):
    return size
