import functools
import sched
import time

from celery import Celery

app = Celery("agenda")
new_agenda = functools.partial(sched.scheduler, time.monotonic, time.sleep)


def note(said, text):
    said.append(text)


@app.task
def announce(*texts):
    said, agenda = [], new_agenda()
    for number, text in enumerate(texts, 1):
        agenda.enter(0.1 * number, number, note, (said, text))
    agenda.run()
    return said
