import threading

from celery import Celery

app = Celery("renders")
done = threading.Event()


@app.task
def render(frames):
    done.wait(1.8)
    return frames
