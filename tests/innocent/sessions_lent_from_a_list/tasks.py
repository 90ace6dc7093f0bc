import threading
import time

from celery import Celery

app = Celery("lend")
free = [f"session-{n}" for n in range(100)]
seen, known, lock = {}, [], threading.Lock()


@app.task
def work(number):
    session = free.pop()
    try:
        time.sleep(0.05)
        return f"{session} {number}"
    finally:
        free.append(session)


@app.task
def once(key):
    with lock:
        if seen.get(key):
            return "again"
        seen[key] = True
        if key not in known:
            known.append(key)
    time.sleep(0.05)
    return "first"
