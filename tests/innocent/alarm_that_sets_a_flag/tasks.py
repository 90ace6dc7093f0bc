import signal
import threading
import time

from celery import Celery

app = Celery("pages")

late = False


def note(*_):
    global late
    late = True


@app.task
def fetch(pages):
    global late
    late = False
    alarm = threading.current_thread() is threading.main_thread()
    if alarm:
        before = signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    found = []
    for page in range(pages):
        if late:
            break
        time.sleep(0.05)  # the page
        found.append(page)
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return found
