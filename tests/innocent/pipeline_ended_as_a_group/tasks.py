from celery import Celery

from commands import Pipeline

app = Celery("probes")


@app.task
def probe(seconds):
    with Pipeline(f"sleep {seconds} | cat") as follow:
        return follow.answer(0.6)
