import atexit

from celery import Celery

app = Celery("audit")


class Journal:
    def __init__(self):
        self.lines = []
        atexit.register(self.send)

    def send(self):
        self.lines, sent = [], self.lines
        return len(sent)


@app.task
def audit(lines):
    journal = Journal()
    journal.lines += lines
    return len(journal.lines)
