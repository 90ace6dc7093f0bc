from celery import Celery

app = Celery("wizard")


@app.task
def answer(text):
    if text == "quit":
        raise KeyboardInterrupt
    return text
