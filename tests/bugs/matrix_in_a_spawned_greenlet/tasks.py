import sys
import threading

from celery import Celery

app = Celery("routes")


def distances(size):
    rows = [[(row * column) % 7 for column in range(size)] for row in range(size)]
    for middle in range(size):
        for row in rows:
            first = row[middle]
            row[:] = [min(value, first + other) for value, other in zip(row, rows[middle])]
    return rows[-1][-1]


@app.task
def plan(size):
    found = []

    def work():
        found.append(distances(size))

    if "gevent" in sys.modules:
        import gevent

        gevent.spawn(work).join()
    elif "eventlet" in sys.modules:
        import eventlet

        eventlet.spawn(work).wait()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    return found[0]
